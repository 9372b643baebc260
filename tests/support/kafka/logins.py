"""A real Kafka with a listener for each kind of login, and the issuer of tokens that one of them trusts."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import trustme
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.kafka import distribution
from tests.support.kafka.local import LocalKafka
from tests.support.ports import free_ports

USER: Final = "pushrail"
PASSWORD: Final = "hunter2-S3cr3t"
CLIENT_ID: Final = "pushrail-client"
_LISTENERS: Final = {"SCRAM": "SASL_SSL", "MTLS": "SSL", "OIDC": "SASL_SSL", "MSK": "SASL_SSL"}
_OAUTH_LOGIN: Final = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
_HANDLER_OF: Final = {
    "OIDC": "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
    "MSK": "MskTokens",
}
_JAVAC_SECS: Final = 60


@dataclass(frozen=True)
class LoginKafka:
    """The addresses by listener, and the files of its clients."""

    addresses: dict[str, str]
    plain: str
    """The address of the listener that asks for no login."""
    ca: Path
    """The certificate of the authority that signed the broker's and the client's."""
    client: Path
    """A client's certificate and private key."""
    issuer: Issuer

    def settings(self, listener: str, **client: Any) -> dict[str, Any]:
        """Section `kafka` of settings that use a listener; ``client`` has properties of its login."""
        trusted = {"ssl.ca.location": str(self.ca)}
        return {"bootstrap_servers": self.addresses[listener], "client": trusted | client}


@dataclass
class Issuer:
    """An OAuth server: it gives tokens for client credentials, on 127.0.0.1."""

    life_secs: int
    url: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    """The forms that came."""
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65_537, 2_048))

    def keys(self) -> str:
        """The JSON Web Key Set."""
        numbers = self._key.public_key().public_numbers()
        n, e = (_base64(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
        return json.dumps({"keys": [{"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig", "n": n, "e": e}]})

    def token(self) -> str:
        """A new JSON Web Token."""
        now = int(time.time())  # noqa: TID251 - the broker compares it with its own clock
        claims = {"sub": CLIENT_ID, "iss": "issuer", "aud": "kafka", "iat": now, "exp": now + self.life_secs}
        parts = ({"alg": "RS256", "kid": "1"}, claims)
        signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_base64(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer while the block lasts."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                expected = base64.b64encode(f"{CLIENT_ID}:{PASSWORD}".encode()).decode()
                is_known = self.headers["Authorization"] == f"Basic {expected}"
                issuer.asked.append(parse_qs(body))
                told: dict[str, Any] = {"error": "invalid_client"}
                if is_known:
                    told = {"access_token": issuer.token(), "token_type": "Bearer", "expires_in": issuer.life_secs}
                self.send_response(200 if is_known else 401)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(told).encode())

            def log_message(self, *_words: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def login_kafka(folder: Path, life_secs: int) -> Iterator[LoginKafka]:
    """A broker for the length of the block. Its tokens live so long, and sessions end with them."""
    ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS)), strict=True))
    authority = trustme.CA()
    ca, broker, client, keys = (folder / name for name in ("ca.pem", "broker.pem", "client.pem", "keys.json"))
    authority.cert_pem.write_to_path(str(ca))
    _write(authority.issue_cert("127.0.0.1", "localhost"), broker)
    _write(authority.issue_cert("client@example.com"), client)
    issuer = Issuer(life_secs)
    keys.write_text(issuer.keys())
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys.as_uri()}"
    files = {"keystore": broker, "truststore": ca}
    with issuer.serving(), LocalKafka(
        _properties(ports, files, keys), jvm=[allowed], classes=_compiled(folder)
    ) as kafka:  # fmt: skip
        _add_user(kafka.bootstrap_servers)
        addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        yield LoginKafka(addresses, kafka.bootstrap_servers, ca, client, issuer)


def _write(issued: trustme.LeafCert, path: Path) -> None:
    """Certificates and private key in one file. Kafka reads a key in PKCS 8 only."""
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain) + chain)


def _properties(ports: dict[str, int], files: dict[str, Path], keys: Path) -> dict[str, str]:
    own = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    protocols = ",".join(f"{name}:{protocol}" for name, protocol in _LISTENERS.items())
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{{client}},CONTROLLER://127.0.0.1:{{controller}},{own}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{{client}},{own}",
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocols}",
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config":
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "listener.name.oidc.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        "listener.name.oidc.oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
    }  # fmt: skip
    for kind, path in files.items():
        properties |= {f"ssl.{kind}.type": "PEM", f"ssl.{kind}.location": str(path)}
    for name, handler in _HANDLER_OF.items():
        prefix = f"listener.name.{name.lower()}"
        properties |= {
            f"{prefix}.sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{prefix}.oauthbearer.sasl.jaas.config": _OAUTH_LOGIN,
            f"{prefix}.oauthbearer.sasl.server.callback.handler.class": handler,
            f"{prefix}.oauthbearer.connections.max.reauth.ms": "3600000",
        }
    return properties


def _compiled(folder: Path) -> Path:
    """The folder with the class that reads Amazon MSK's tokens."""
    jars, java = distribution.ensure_jars(), Path(distribution.find_java())
    source = Path(__file__).with_name("MskTokens.java")
    classes = folder / "classes"
    command = [str(java.with_name("javac")), "-d", str(classes), "-cp", f"{jars}/*", str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=_JAVAC_SECS)
    return classes


def _add_user(bootstrap_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
    added = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, info, PASSWORD.encode())])
    added[USER].result(20)


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
