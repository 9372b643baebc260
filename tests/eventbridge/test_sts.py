"""Any answer in the place of STS's or KMS's is a failure of that call only. A redirect is never followed."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
import pytest
from botocore.parsers import QueryParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.outcome import Refresh, Retryable, Split
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, Answered, CallFailed, judge
from pushrail_stream.eventbridge.http import StockClients
from pushrail_stream.eventbridge.kms import KmsKey
from pushrail_stream.eventbridge.own_identity import UnknownIdentity, own_account
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.eventbridge.sts import Identity, RoleSession, StsEndpoint, assume_role_request
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.eventbridge_world import ASSUME, KEY, ROLE, SECRET, Clock, failed, to, world
from tests.support.recording_server import Recorder, http

ARN = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
OURS = Keys(KEY, Secret(SECRET), Secret("our-token"))
REQUEST = assume_role_request(ROLE, "acme-ext-7Pq2", "pushrail-dst", None)


def session(key: str = "ASIA1", secret: str = "s", token: str = "t", until: str = "2100-01-01T00:00:00Z") -> bytes:
    fields = {"AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": token, "Expiration": until}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items() if value != "absent")
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"{inner}</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


IDENTITY = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn><Account>1</Account>"
    b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
DATA_KEY = json.dumps(
    {"Plaintext": b64encode(bytes(32)).decode(), "CiphertextBlob": b64encode(b"w").decode(), "KeyId": ARN}
).encode()

statuses = st.sampled_from(
    [100, 200, 201, 204, 299, 300, 301, 302, 307, 308, 400, 401, 403, 404, 413, 429, 500, 502, 503]
)
whole = st.sampled_from(
    [
        *(
            b"",
            b"hello",
            b"null",
            b"[]",
            b"{}",
            b"7",
            b'"text"',
            b"\x00\xff\xfe",
            b"<html><body>no</body></html>",
            b" " * 99,
        ),
        *(
            session(),
            session(token="t\r\nX-Evil: 1"),
            session(key="\u00e4"),
            session(until="never"),
            session(until="absent"),
        ),
        *(
            session(token="absent"),
            session(until="0001-01-01T00:00:00Z"),
            session(until="0001-01-01T00:00:00"),
            session(until="2100-01-01T00:00:00+99:99"),
            session(secret=""),
            b"<!DOCTYPE html><p>",
            DENIED,
        ),
        *(IDENTITY, IDENTITY.replace(b"arn:aws:iam::1:user/a", b"me"), DATA_KEY, DATA_KEY.replace(b"A", b"\xff")),
        *(
            b'{"Plaintext": 7, "CiphertextBlob": []}',
            b'{"Plaintext": "AA==", "CiphertextBlob": "AA=="}',
            b'{"Plaintext": null}',
        ),
        *(b'{"__type": ["a"], "message": 7}', b'{"__type": "\\ud800", "message": "\\ud800"}', b'{"__type": {"a": 1}}'),
        b"<ErrorResponse><Error><Code><b/></Code><Code>x</Code><Message/></Error><RequestId>\xc3\xa4</RequestId></ErrorResponse>",
        b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;</r>',
    ]
)
bodies = whole | st.binary(max_size=60) | st.builds(lambda body, end: body[:end], whole, st.integers(0, 400))
codings = st.sampled_from([None, "gzip", "deflate", "br", "gzip, gzip", "\u00e4", ""])
odd_headers = st.sampled_from(
    [
        (),
        ("Location: http://127.0.0.1:1/",),
        ("x-amzn-RequestId: \x7f\xff",),
        ("Content-Type: text/xml; charset=nonsense",),
        ("Set-Cookie: =;;=",),
        ("x-amzn-ErrorType: AccessDeniedException",),
        ("x-amzn-query-error: ;;",),
    ]
)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    body, coding, headers = draw(bodies), draw(codings), draw(odd_headers)
    if coding in {"gzip", "deflate"} and draw(st.booleans()):
        body = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    lines = [*headers, "Connection: close"] + ([] if coding is None else [f"Content-Encoding: {coding}"])
    length = draw(st.none() | st.integers(0, 500)) if draw(st.integers(0, 4)) == 0 else len(body)
    head = f"HTTP/1.1 {draw(statuses)} Whatever\r\n" + "".join(f"{line}\r\n" for line in lines)
    if length is not None:
        head += f"Content-Length: {length}\r\n"
    raw = head.encode("latin-1") + b"\r\n" + body
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 6)) == 0 else raw


ANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


TIMEOUTS = EventBridgeSettings(connect_timeout_secs=3, read_timeout_secs=3)


def test_an_sts_answer_is_session_or_failure() -> None:
    """One server and one client for all examples: what one leaves behind must not harm the next."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(Recorder.serve(b"", closes=True))
            sts = await StsEndpoint.open(StsSettings(endpoint_url=server.url), StockClients(stack, TIMEOUTS))
            assert isinstance(sts, StsEndpoint)
            loop = asyncio.get_running_loop()

            @ANY
            @given(raw=replies())
            def check(raw: bytes) -> None:
                server.reply = raw
                asked = asyncio.run_coroutine_threadsafe(sts.assume_role(OURS, REQUEST), loop)
                holds(asked.result(30), RoleSession)
                asked_who = asyncio.run_coroutine_threadsafe(sts.caller_identity(OURS), loop)
                holds(asked_who.result(30), Identity)

            await asyncio.to_thread(check)
            server.reply = http("200 OK", session())
            assert isinstance(await sts.assume_role(OURS, REQUEST), RoleSession)
            assert all(request.start == "POST / HTTP/1.1" for request in server.requests)

    asyncio.run(run())


def holds(answer: RoleSession | Identity | CallFailed, kind: type) -> None:
    if isinstance(answer, kind):
        return
    assert isinstance(answer, CallFailed)
    for text in (answer.code, answer.message, answer.request_id or ""):
        assert text.encode() is not None
    assert len(answer.code) <= 128
    assert "our-token" not in repr(answer)
    assert SECRET not in repr(answer)
    verdict = judge(answer._replace(operation="AssumeRole"), 3, assumed_role=True, refreshed=False)
    assert not isinstance(verdict, Refresh | Split)
    assert len(verdict) == 3


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"hello", b"{}", b"<html></html>", b"<!DOCTYPE html><html>", session()[:200], gzip.compress(session())),
        *(session(until="absent"), session(token="absent"), session(token="t\n"), session(key=""), session(until="x")),
        *(session(until="2020-01-01T00:00:00Z"), DENIED),
        *(session(until="0001-01-01T00:00:00"), session(until="2100-01-01T00:00:00+99:99"), session(until="23:59:59")),
    ],
)
async def test_a_foreign_reply_fails_one_customer(body: bytes, base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server), Recorder.serve(http("200 OK", body)) as peer:
        us._sign_in._settings = StsSettings(endpoint_url=peer.url)
        reply = await us.call(to(ASSUME))
        assert failed(reply)[:2] == ("AssumeRole", UNKNOWN_RESULT)
        verdict = judge(reply, 1, assumed_role=True, refreshed=False)
        assert isinstance(verdict, tuple)
        assert [isinstance(one, Retryable) and not one.is_our_fault for one in verdict] == [True]
        asked = []
        for second in range(60):
            clock.epoch += 1
            before = len(peer.requests)
            await us.call(to(ASSUME))
            if len(peer.requests) > before:
                asked.append(second)
        assert asked == [0, 2, 6, 14, 29, 44, 59], "the pause grows to 15 s"
        assert server.calls == []
        peer.reply = http("200 OK", gzip.compress(session()), "Content-Encoding: gzip")
        clock.epoch += 15
        assert failed(await us.call(to(ASSUME)))[0] == "PutEvents", "it has a session, which this bus does not know"


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_long_answer_of_sts_is_not_parsed(
    status: int, base_credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser would take seconds, in which nothing else is delivered."""
    parsed = list[int]()
    monkeypatch.setattr(QueryParser, "parse", lambda _parser, reply, _shape: parsed.append(len(reply["body"])))
    raw = http(f"{status} Whatever", b"<r>" + b"<a/>" * 900_000 + b"</r>")
    async with world(base_credentials) as (us, _), Recorder.serve(raw) as peer:
        us._sign_in._settings = StsSettings(endpoint_url=peer.url)
        reply = await us.call(to(ASSUME))
        assert parsed == []
        assert failed(reply)[:2] == ("AssumeRole", UNKNOWN_RESULT if status == 200 else str(status))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_of_sts_is_never_followed(status: int, base_credentials: tuple[str, str]) -> None:
    async with Recorder.serve(http("200 OK", session())) as elsewhere:
        to_there = http(f"{status} Elsewhere", b"", f"Location: {elsewhere.url}/")
        async with world(base_credentials) as (us, _), Recorder.serve(to_there) as peer:
            us._sign_in._settings = StsSettings(endpoint_url=peer.url)
            reply = await us.call(to(ASSUME))
            assert not isinstance(reply, Answered)
            assert len(peer.requests) == 1
            with pytest.raises(UnknownIdentity):
                await own_account(StsSettings(endpoint_url=peer.url), EventBridgeSettings())
            assert elsewhere.requests == [], "it would get our session token and the customer's external ID"


class OddKms(BaseHTTPRequestHandler):
    reply = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.close_connection = True
        self.wfile.write(self.reply)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def odd_kms(base_credentials: tuple[str, str]) -> Iterator[str]:
    del base_credentials
    server = ThreadingHTTPServer(("127.0.0.1", 0), OddKms)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_kms_answer_is_a_key_or_a_failure(odd_kms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.eventbridge.kms._ATTEMPTS", 1)
    shared = botocore.session.get_session()  # one for all clients, since each new one reads the service's model anew
    monkeypatch.setattr("pushrail_stream.eventbridge.kms.botocore.session.get_session", lambda: shared)
    later = 0.0

    def clock() -> float:
        nonlocal later
        later += 10  # past the pause that follows an answer that is none
        return later

    key = KmsKey(ARN, endpoint_url=odd_kms, clock=clock)
    context = {"pushrail:vendor": "acme"}

    @settings(ANY, max_examples=80)
    @given(raw=replies(), wrapped=st.binary(min_size=1, max_size=20))
    def check(raw: bytes, wrapped: bytes) -> None:
        OddKms.reply = raw
        said = ""
        try:
            plain, sealed = key.new_data_key(context)
        except KeyUnavailable as error:
            said += str(error)
        else:
            assert (len(plain), type(sealed)) == (32, bytes)
        try:
            opened = key.unwrap(wrapped, context)
        except KeyUnavailable as error:
            said += str(error)
        else:
            assert opened is None or len(opened) == 32
        assert said.encode() is not None, "it can be written down"

    check()
    OddKms.reply = http("200 OK", gzip.compress(DATA_KEY), "Content-Encoding: gzip", "Connection: close")
    assert key.new_data_key(context) == (bytes(32), b"w"), "a compressed answer is one"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"hello", b"{}", b"[]", b'{"Plaintext": 7}', b'{"Plaintext": "AA=="}', b'{"Plaintext": null}'),
        json.dumps({"Plaintext": b64encode(bytes(32)).decode()}).encode(),
    ],
)
def test_an_invalid_data_key_is_no_answer(odd_kms: str, body: bytes) -> None:
    OddKms.reply = http("200 OK", body, "Connection: close")
    with pytest.raises(KeyUnavailable, match="KMS cannot be asked"):
        KmsKey(ARN, endpoint_url=odd_kms).new_data_key({})
