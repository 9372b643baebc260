"""How the services word their replies: AWS JSON 1.1 for EventBridge, XML for STS; and the ids in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never
from xml.sax.saxutils import escape

import orjson

from pushrail_stream.sandbox.bus.faults import (
    CallEffect,
    CallError,
    ExpireTokens,
    Garbage,
    Hang,
    ResetAfter,
    ResetBefore,
)
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

HTML = b"<html><head><title>Error</title></head><body><h1>The proxy has something to say</h1></body></html>"
STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
EXPIRED = "The security token included in the request is expired"


class Ids:
    """Unique ids shaped as UUIDs: drawn once, then counted, since a UUID a piece would cost more than the checks."""

    def __init__(self, dice: Random) -> None:
        bits = dice.getrandbits(64)
        self._head = f"{bits >> 32:08x}-{bits >> 16 & 0xFFFF:04x}-4{bits & 0xFFF:03x}-8000-"
        self._count = 0

    def next(self) -> str:
        """Give the next id."""
        self._count += 1
        return f"{self._head}{self._count:012x}"


def json_error(status: int, code: str, message: str, request_id: str) -> Reply:
    """Write an error of a JSON 1.1 service; clients read ``__type`` in the body."""
    body = orjson.dumps({"__type": code, "message": message})
    return Reply(status, body, JSON_1_1, request_id, code)


def xml_error(status: int, code: str, message: str, request_id: str) -> Reply:
    """Write an error of STS."""
    side = "Sender" if status < 500 else "Receiver"  # noqa: PLR2004 - HTTP's own number
    body = (
        f'<ErrorResponse xmlns="{STS_NAMESPACE}"><Error><Type>{side}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return Reply(status, body.encode(), "text/xml", request_id)


def xml_result(action: str, result: str, request_id: str) -> Reply:
    """Write a result of STS; ``result`` is XML."""
    body = (
        f'<{action}Response xmlns="{STS_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Reply(200, body.encode(), "text/xml", request_id)


def struck(
    effect: CallEffect, request_id: str, error: Callable[[int, str, str, str], Reply], expired: tuple[int, str]
) -> Reply | None:
    """Give the reply a fault puts in the place of the service's; None where the call is carried out all the same.

    ``error`` words an error as the service does, ``expired`` is its status and code for an expired token.
    """
    match effect:
        case CallError():
            return _call_error(effect, request_id, error)
        case ExpireTokens():
            return error(*expired, EXPIRED, request_id)
        case Hang():
            return Reply(0, action="hang", request_id=request_id)
        case ResetBefore():
            return Reply(0, action="abort", request_id=request_id)
        case Garbage():
            return _garbage(effect, request_id)
        case ResetAfter():
            return None
        case _ as unreachable:
            assert_never(unreachable)


def _garbage(effect: Garbage, request_id: str) -> Reply | None:
    match effect.body:
        case "empty":
            return Reply(200, b"", JSON_1_1, request_id)
        case "html":
            return Reply(200, HTML, "text/html", request_id)
        case "object":
            return Reply(200, b"{}", JSON_1_1, request_id)
        case "short":
            return None
        case _ as unreachable:
            assert_never(unreachable)


def _call_error(effect: CallError, request_id: str, error: Callable[[int, str, str, str], Reply]) -> Reply:
    match effect.body:
        case "aws":
            return error(effect.status, effect.code, effect.message, request_id)
        case "empty":
            return Reply(effect.status, b"", JSON_1_1, request_id)
        case "html":
            return Reply(effect.status, HTML, "text/html", request_id)
        case _ as unreachable:
            assert_never(unreachable)
