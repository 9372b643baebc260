"""Any bytes that answer a call give a value that can be written down, and never an exception."""

from __future__ import annotations

import gzip

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.outcome import Delivered, Refresh, Split, TooLarge
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered, CallFailed, CallReply, judge
from pushrail_stream.settings.eventbridge import AccessKey
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch
from tests.support.builders import destination
from tests.support.recording_server import Recorder, http

TARGET = destination(auth=AccessKey("AKIACUSTOMER00000000", Secret("customer-secret")))
ENTRIES = 2
SECS = 5.0
"""A reply that says that more is to come ends in a time-out; the server closes the connection, so few do."""

words = st.sampled_from(
    [
        "ThrottlingException",
        "com.amazonaws.events#AccessDeniedException",
        "ValidationException:http://x/",
        "",
        "🚆",
        "x" * 3000,
    ]
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
result = st.dictionaries(st.sampled_from(["EventId", "ErrorCode", "ErrorMessage"]), values)
objects = st.fixed_dictionaries(
    {},
    optional={
        "Entries": st.lists(result | values, max_size=4) | values,
        "Arn": values,
        "__type": values,
        "code": values,
        "message": values,
        "Message": values,
    },
)
jsons = (objects | values).map(orjson.dumps)
bodies = st.one_of(
    jsons,
    jsons.map(gzip.compress),
    jsons.map(lambda body: body[: len(body) // 2]),
    st.binary(max_size=200),
    st.just(b"<html><body>blocked</body></html>"),
    st.just(b"[" * 5000),
    st.just(b'{"__type":"\\ud800"}'),
)
printable = st.binary(max_size=40).filter(lambda value: not set(value) & set(b"\r\n\0"))
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"x-amzn-RequestId", b"x-amzn-ErrorType", b"x-amzn-query-error", b"Content-Type", b"Content-Encoding",
                b"Transfer-Encoding", b"Location", b"Set-Cookie", b"Connection", b"Retry-After", b"Upgrade",
            ]
        ),
        st.sampled_from([b"gzip", b"br", b"chunked", b"close", b"ThrottlingException", b"a=b; c", b"/", b"x" * 500])
        | printable,
    ),
    max_size=4,
)  # fmt: skip


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """An HTTP reply, more or less."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(min_size=1, max_size=300))
    body, status = draw(bodies), draw(st.sampled_from([200, 200, 200, 400, 403, 500]) | st.integers(0, 999))
    length = draw(st.sampled_from([len(body)] * 8 + [len(body) + 1, max(0, len(body) - 1)]))
    head, _, _ = http(f"{status} Whatever", length=length).partition(b"\r\n\r\n")
    return b"".join([head, *(b"\r\n" + name + b": " + value for name, value in draw(headers)), b"\r\n\r\n", body])


def check_that_it_can_be_kept(reply: CallReply) -> None:
    """Everything in the reply fits into Kafka's headers, JSON and a line of the log."""
    verdict = judge(reply, ENTRIES, assumed_role=True, refreshed=False)
    outcomes = (verdict,) if isinstance(verdict, Split | TooLarge | Refresh) else verdict
    for outcome in outcomes:
        texts = (outcome.event_id,) if isinstance(outcome, Delivered) else (outcome.code, outcome.message)
        for text in texts:
            assert len(text.encode()) <= 1024
        if not isinstance(outcome, Delivered):
            assert outcome.code.isascii()
            assert outcome.code.isprintable()
    if reply.request_id is not None:
        assert reply.request_id.isascii()
        assert reply.request_id.isprintable()
    orjson.dumps([outcome[:2] for outcome in outcomes])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(reply=replies())
async def test_no_reply_makes_the_port_raise(reply: bytes) -> None:
    async with Recorder.serve(reply, closes=True) as server:
        options = EventBridgeSettings(endpoint_url=server.url, connect_timeout_secs=SECS, read_timeout_secs=SECS)
        async with EventBridge.open(options, StsSettings()) as bus:
            answer = await bus.call(batch(TARGET, ENTRIES))
            bus_status = await bus.check(TARGET)
    assert isinstance(answer, Answered | CallFailed)
    assert bus_status in {"there", "gone", "denied", "unknown"}
    check_that_it_can_be_kept(answer)
