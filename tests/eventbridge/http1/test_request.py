from __future__ import annotations

import pytest

from pushrail_stream.eventbridge.http1.request import SharedHeaders, request_bytes


def test_a_request_is_a_head_and_a_body() -> None:
    assert request_bytes("/a?b", {"Host": "bus", "X-Amz-Date": "now"}, b"{}") == (
        b"POST /a?b HTTP/1.1\r\nHost: bus\r\nX-Amz-Date: now\r\nContent-Length: 2\r\nAccept: */*\r\n\r\n{}"
    )


def test_a_request_without_a_body_says_so() -> None:
    assert request_bytes("/", {}, b"") == b"POST / HTTP/1.1\r\nContent-Length: 0\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize("bad", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\r\n\r\nPOST / HTTP/1.1", "\0"])
def test_a_header_cannot_begin_another(bad: str) -> None:
    with pytest.raises(ValueError, match="Newline, carriage return, or null byte"):
        request_bytes("/", {"X-Amz-Security-Token": bad}, b"")
    with pytest.raises(ValueError, match="Newline, carriage return, or null byte"):
        request_bytes("/", {bad: "value"}, b"")
    with pytest.raises(ValueError, match="Newline, carriage return, or null byte"):
        request_bytes(f"/{bad}", {}, b"")


def test_shared_headers_follow_those_of_the_request() -> None:
    shared = SharedHeaders({"Host": "bus", "X-Amz-Target": "put"})
    for number in (b"1", b"22"):
        assert request_bytes("/", {"X-Amz-Date": "now"}, number, shared) == (
            b"POST / HTTP/1.1\r\nX-Amz-Date: now\r\nContent-Length: %d\r\n"
            b"Accept: */*\r\nHost: bus\r\nX-Amz-Target: put\r\n\r\n%b" % (len(number), number)
        )


def test_a_protocol_may_accept_one_type_alone() -> None:
    assert request_bytes("/", {}, b"", SharedHeaders({"Accept": "application/cbor"})) == (
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\nAccept: application/cbor\r\n\r\n"
    )


@pytest.mark.parametrize("bad", ["a\r\nX-Other: b", "a\nb", "a\rb", "\0"])
def test_a_shared_header_cannot_begin_another(bad: str) -> None:
    for shared in (SharedHeaders({"X-Amz-Security-Token": bad}), SharedHeaders({bad: "value"})):
        for _ in range(2):
            with pytest.raises(ValueError, match="Newline, carriage return, or null byte"):
                request_bytes("/", {}, b"", shared)
