"""Kafka that cannot be reached: every command gives librdkafka's own reason."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import reach
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import Settings
from tests.support.commands import COMMANDS, Desk, Shell
from tests.support.documents import EXAMPLE, write
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.ports import free_port, free_ports
from tests.support.sealing_keys import ring

ARGUMENTS: Final = {
    "access aws": "", "access destination": "dst_acme --our-account 210987654321",
    "attempts": "--since 1h", "audit": "", "attempts index": "--once", "backlog list": "", "check": "--since 1h",
    "destinations delete": "dst_acme", "destinations disable": "dst_acme", "destinations enable": "dst_acme",
    "destinations export": "", "destinations import": "export.jsonl", "destinations list": "",
    "destinations pause": "dst_acme", "destinations put": "acme.json", "destinations resume": "dst_acme",
    "destinations seal": "acme.json", "destinations show": "dst_acme", "destinations test": "dst_acme",
    "dlq list": "", "dlq show": "--reason blocked", "events schema": "--eventbridge", "ingest": "",
    "keys rotate": "--dry-run", "notices": "", "replay dlq": "--reason blocked --dry-run",
    "replay events": "--all --since 1h --dry-run", "replay offsets": "--to earliest --dry-run", "retry list": "",
    "retry now": "--destination dst_acme", "run": "", "top": "--once",
    "topics create": "", "topics describe": "", "topics skip": "pushrail.events/0/1 --reason broken",
    "usage": "--by customer --month 2026-11",
}  # fmt: skip
"""Arguments of the commands that speak to Kafka, with documents on a topic."""
OTHERS: Final = {
    "access kafka", "completion", "config init", "config schema", "config show", "destinations onboard",
    "destinations schema",
    "destinations validate", "doctor", "events asyncapi", "plan",
    "events check", "ingest keys create", "ingest keys list", "ingest keys revoke", "keys generate", "keys list",
    "sandbox", "sandbox bus", "sandbox inbox",
}  # fmt: skip
SERVICES: Final = {"ingest", "run"}
"""They change their process, so they run in one of their own."""
ADVICE: Final = "; check kafka.bootstrap_servers and kafka.client"


def serve(reply: bytes) -> Iterator[str]:
    """The address of a server that gives every client the same reply."""

    def answer() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with closing(client):
                client.recv(1_000)
                client.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def babbler() -> Iterator[str]:
    """A server that is no Kafka."""
    yield from serve(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, and as many as a slow machine needs until all brokers have refused."""
    monkeypatch.setattr(reach, "_ASK_SECS", (0.2,) * 100)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a document and a keyring; other documents are on the topic."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, acme=EXAMPLE)
    head = {"format": "pushrail-destinations", "version": 1, "documents": 1}
    Path("export.jsonl").write_text(f"{json.dumps(head)}\n{json.dumps(EXAMPLE)}\n")
    Path("keyring.json").write_bytes(ring("a"))
    return tmp_path


def settings(address: str, **client: Any) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": address, "client": client},
            "registry": {"topic": True},
            "secrets": {"keyring": "keyring.json"},
            "history": {"index": "attempts.sqlite"},
        }
    )


def test_every_command_is_known_here() -> None:
    assert {" ".join(words) for words in COMMANDS} <= ARGUMENTS.keys() | OTHERS


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "command", [name for name in ARGUMENTS if name not in SERVICES and tuple(name.split()) in COMMANDS]
)
@pytest.mark.parametrize("kind", ["closed", "babbler"])
def test_a_command_tells_why(
    command: str, kind: str, home: Path, babbler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{free_port()}" if kind == "closed" else babbler
    config = home / "pushrail.yaml"
    config.write_text(yaml.safe_dump(settings(address).model_dump(mode="json")))
    words = [*command.split(), *ARGUMENTS[command].split(), "--config", str(config)]
    code, _, err = Shell(capsys, [])(*words)
    reason = {
        "closed": f"Connect to ipv4#{address} failed: Connection refused",
        "babbler": "Receive failed: Invalid response size 1213486160",
    }[kind]
    assert code == 1
    assert f"error: Kafka cannot be reached at {address}: {reason}" in err
    assert err.endswith(f"{ADVICE}\n")


@pytest.mark.parametrize("words", [["run"], ["run", "--workers", "2"], ["ingest"]])
async def test_a_service_that_starts_tells_why(words: list[str], home: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    desk = Desk(home, settings(address))
    await desk.run("ingest", "keys", "create", "--vendor", "acme")
    err = await desk.run(*words, exit_code=1)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told == [
        f"error: Kafka cannot be reached at {address}: Connect to ipv4#{address} failed: Connection refused{ADVICE}"
    ]


def why(address: str, **client: Any) -> str:
    with pytest.raises(OperatorError) as caught:
        reached_kafka(settings(address, **client))
    return str(caught.value)


@pytest.mark.usefixtures("hurried")
def test_names_and_several_brokers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    told = why(f"127.0.0.1:{port},nowhere.invalid:9092")
    assert f"127.0.0.1:{port}: Connect to ipv4#127.0.0.1:{port} failed: Connection refused" in told
    assert "nowhere.invalid:9092: Failed to resolve 'nowhere.invalid:9092': " in told
    monkeypatch.setattr(reach, "_ASK_SECS", (0.5,) * 40)  # librdkafka makes 20 connections a second
    assert "; and 2 more; " in why(",".join(f"127.0.0.1:{port}" for port in free_ports(5)))


@pytest.mark.usefixtures("hurried")
def test_tls_that_does_not_fit_is_told(babbler: str) -> None:
    told = why(babbler, **{"security.protocol": "ssl"})
    assert "SSL handshake failed: " in told or "wrong version number" in told  # librdkafka has two ways to say it


@pytest.mark.usefixtures("hurried")
def test_a_broker_that_hangs_up_is_told() -> None:
    for address in serve(b""):
        assert f"reached at {address}: Disconnected: " in why(address)


def test_a_broker_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_ASK_SECS", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert (
            why(address)
            == f"Kafka cannot be reached at {address}: Failed to get metadata: Local: Broker transport failure{ADVICE}"
        )


@pytest.mark.usefixtures("hurried")
def test_an_operator_who_wants_log_lines_gets_them(capfd: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert "failed: Connection refused" in why(address, log_level=6)
    assert "|FAIL|" in capfd.readouterr().err


def test_a_broker_that_comes_back_is_reached() -> None:
    """The first refusal is not the last word."""
    with EmbeddedBroker.start({}) as broker:
        port = free_port()
        wanted = settings(f"127.0.0.1:{port},{broker.bootstrap_servers}")
        assert reached_kafka(wanted).bootstrap_servers == wanted.kafka.bootstrap_servers


def test_the_first_contact_is_made_once(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = settings(embedded_broker.bootstrap_servers)
    reached_kafka(wanted)
    monkeypatch.setattr(reach, "_ASK_SECS", ())
    reached_kafka(wanted)


@pytest.mark.kafka
def test_a_wrong_password_and_a_wrong_protocol_are_told(local_kafka_factory: LocalKafkaFactory, tmp_path: Path) -> None:
    """A real Kafka with a SASL listener and a TLS listener beside the plain one."""
    sasl, tls = free_port(), free_port()
    authority = trustme.CA()
    certificate, store = authority.issue_cert("127.0.0.1"), tmp_path / "broker.pem"
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the form that Kafka reads
    store.write_bytes(pkcs8 + certificate.cert_chain_pems[0].bytes())
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    listeners = f"PLAINTEXT://127.0.0.1:{{client}},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}"
    local_kafka_factory(
        {
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{{controller}}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f'{module} user_alice="right";',
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
        }
    )
    login = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "alice"}
    told = why(f"127.0.0.1:{sasl}", **login, **{"sasl.password": "hunter2"})
    assert f"127.0.0.1:{sasl}: SASL authentication error: Authentication failed: Invalid username or password" in told
    assert "hunter2" not in told
    reached_kafka(settings(f"127.0.0.1:{sasl}", **login, **{"sasl.password": "right"}))
    assert "certificate verify failed" in why(f"127.0.0.1:{tls}", **{"security.protocol": "ssl"})
    ours = {"security.protocol": "ssl", "ssl.ca.location": str(tmp_path / "ca.pem")}
    reached_kafka(settings(f"127.0.0.1:{tls}", **ours))
    assert f"reached at 127.0.0.1:{tls}: Disconnected: " in why(f"127.0.0.1:{tls}")
