"""A master key in KMS: bound to its place by the encryption context, and unavailable with a reason."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from pushrail_stream.eventbridge.kms import KmsKey
from pushrail_stream.ports.secrets import KeyUnavailable
from tests.support.moto_server import moto_server, url_of

CONTEXT = {"pushrail:vendor": "acme", "pushrail:destination": "dst_a", "pushrail:field": "auth.secretAccessKey"}
ELSEWHERE = {**CONTEXT, "pushrail:destination": "dst_b"}
UNKNOWN = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"


@pytest.fixture
def moto(base_credentials: tuple[str, str]) -> Iterator[ThreadedMotoServer]:
    del base_credentials
    with moto_server() as server:
        yield server


def stock(url: str) -> Any:
    return botocore.session.get_session().create_client("kms", region_name="eu-west-1", endpoint_url=url)


def patient(arn: str, url: str) -> KmsKey:
    return KmsKey(arn, endpoint_url=url, timeout_secs=30)


def new_key(url: str) -> str:
    return str(stock(url).create_key()["KeyMetadata"]["Arn"])


def test_a_data_key_is_bound_to_its_place(moto: ThreadedMotoServer) -> None:
    url = url_of(moto)
    arn = new_key(url)
    key = patient(arn, url)
    plain, wrapped = key.new_data_key(CONTEXT)
    assert len(plain) == 32
    assert plain not in wrapped
    fresh = patient(arn, url)
    assert fresh.unwrap(wrapped, CONTEXT) == plain
    assert fresh.unwrap(wrapped, ELSEWHERE) is None
    assert fresh.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), CONTEXT) is None
    assert key.new_data_key(CONTEXT)[0] != plain


def test_an_unwrapped_key_needs_no_second_call(moto: ThreadedMotoServer) -> None:
    url = url_of(moto)
    arn = new_key(url)
    key = patient(arn, url)
    plain, wrapped = key.new_data_key(CONTEXT)
    assert key.unwrap(wrapped, CONTEXT) == plain
    moto.stop()
    assert key.unwrap(wrapped, CONTEXT) == plain
    with pytest.raises(KeyUnavailable):
        key.unwrap(wrapped, ELSEWHERE)  # remembered for its place alone
    moto.start()


def test_a_key_unknown_to_kms_is_unreachable(moto: ThreadedMotoServer) -> None:
    key = patient(UNKNOWN, url_of(moto))
    for use in (lambda: key.new_data_key(CONTEXT), lambda: key.unwrap(b"x" * 200, CONTEXT)):
        with pytest.raises(KeyUnavailable) as refused:
            use()
        assert str(refused.value).startswith(f"KMS answers NotFoundException ({UNKNOWN}): ")
    assert repr(key) == f"KmsKey({UNKNOWN})"


@pytest.mark.parametrize(
    ("code", "opens_later"),
    [
        ("InvalidCiphertextException", False),
        ("IncorrectKeyException", False),
        ("AccessDeniedException", True),
        ("DisabledException", True),
        ("KMSInvalidStateException", True),
        ("ThrottlingException", True),
    ],
)
def test_only_a_wrong_ciphertext_is_given_up(code: str, opens_later: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """By AWS's documented codes: moto answers AccessDeniedException to what another key wrapped."""

    class Refuses:
        def decrypt(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Decrypt")

    key = KmsKey(UNKNOWN, endpoint_url=None)
    monkeypatch.setattr(key, "_kms", Refuses())
    if opens_later:
        with pytest.raises(KeyUnavailable, match=rf"KMS answers {code} \({UNKNOWN}\): no"):
            key.unwrap(b"w", CONTEXT)
    else:
        assert key.unwrap(b"w", CONTEXT) is None


def test_a_silent_kms_gets_a_pause(base_credentials: tuple[str, str]) -> None:
    del base_credentials
    now = 100.0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    key = KmsKey(UNKNOWN, endpoint_url=url, clock=lambda: now)
    with pytest.raises(
        KeyUnavailable, match=rf"KMS cannot be asked \({UNKNOWN}\): EndpointConnectionError: Could not connect"
    ):
        key.unwrap(b"x" * 200, CONTEXT)
    with pytest.raises(KeyUnavailable, match="KMS could not be asked a moment ago"):
        key.unwrap(b"y" * 200, CONTEXT)
    now += 5.1
    with pytest.raises(KeyUnavailable, match="KMS cannot be asked"):
        key.unwrap(b"y" * 200, CONTEXT)


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_another_key_of_ours_is_looked_for_when_kms_refuses_ours(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client keeps the key that it read from the file of credentials, when the file has another one since."""
    asked_with: list[str] = []

    class Kms(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked_with.append(self.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
            is_old = asked_with[-1] == "AKIAOLD"
            body = {"__type": code, "message": "no"} if is_old else {"Plaintext": b64encode(bytes(32)).decode()}
            content = json.dumps(body).encode()
            self.send_response(400 if is_old else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def write_key(name: str) -> None:
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {name}\naws_secret_access_key = s\n")

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    write_key("AKIAOLD")
    now = 100.0
    with ThreadingHTTPServer(("127.0.0.1", 0), Kms) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        key = KmsKey(UNKNOWN, endpoint_url=f"http://127.0.0.1:{server.server_port}", clock=lambda: now)
        with pytest.raises(KeyUnavailable, match=f"KMS answers {code}"):
            key.unwrap(b"wrapped", CONTEXT)
        write_key("AKIANEW")
        with pytest.raises(KeyUnavailable, match="KMS could not be asked a moment ago"):
            key.unwrap(b"wrapped", CONTEXT)
        now += 5.1
        assert key.unwrap(b"wrapped", CONTEXT) == bytes(32)
        server.shutdown()
    assert asked_with == ["AKIAOLD", "AKIANEW"]


def test_without_credentials_kms_is_unreachable() -> None:
    with pytest.raises(KeyUnavailable, match="Unable to locate credentials"):
        KmsKey(UNKNOWN, endpoint_url="http://127.0.0.1:1").new_data_key(CONTEXT)


def test_kms_gets_the_context_and_the_arn(base_credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to KMS names vendor, destination and field, so that a key policy can check them."""
    del base_credentials
    asked: list[tuple[str, dict[str, Any]]] = []

    class Answers:
        def __getattr__(self, operation: str) -> Any:
            def answer(**request: Any) -> dict[str, bytes]:
                asked.append((operation, request))
                return {"Plaintext": bytes(32), "CiphertextBlob": b"w"}

            return answer

    key = KmsKey(UNKNOWN, endpoint_url=None)
    monkeypatch.setattr(key, "_kms", Answers())
    key.new_data_key(CONTEXT)
    key.unwrap(b"w", CONTEXT)
    assert asked == [
        ("generate_data_key", {"KeyId": UNKNOWN, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}),
        ("decrypt", {"KeyId": UNKNOWN, "CiphertextBlob": b"w", "EncryptionContext": CONTEXT}),
    ]
    assert b64encode(bytes(32)).decode() not in json.dumps([list(map(str, one)) for one in asked])


def test_a_dripping_kms_reply_ends_in_time(base_credentials: tuple[str, str]) -> None:
    """No read time-out ends it. Meanwhile no other document would be read."""
    del base_credentials
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.1):
                connection.sendall(b" ")

    def serve(server: socket.socket) -> None:
        with suppress(OSError):  # the test shuts the listening socket down
            while True:
                threading.Thread(target=drip, args=[server.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=[server], daemon=True).start()
        key = KmsKey(UNKNOWN, endpoint_url=f"http://127.0.0.1:{server.getsockname()[1]}", timeout_secs=0.3)
        with pytest.raises(KeyUnavailable, match="no whole answer"):
            key.unwrap(b"wrapped", CONTEXT)
        ended.set()
        server.shutdown(socket.SHUT_RDWR)  # closing alone does not wake a thread that accepts


def test_hanging_credentials_are_no_answer(base_credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    del base_credentials
    ended = threading.Event()
    monkeypatch.setattr(botocore.session.Session, "get_credentials", lambda _session: ended.wait())
    key = KmsKey(UNKNOWN, endpoint_url="http://127.0.0.1:1", timeout_secs=0.3)
    with pytest.raises(KeyUnavailable, match="no whole answer"):
        key.unwrap(b"wrapped", CONTEXT)
    ended.set()
