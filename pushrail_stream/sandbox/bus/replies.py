"""Replies in the form of each service: JSON 1.1 for EventBridge, CBOR for its V2, XML for STS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import cbor2
import orjson

from pushrail_stream.sandbox.bus.signature import AuthFault, Unauthenticated
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply

_STS_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
_CBOR: Final = "application/cbor"
_V2_NAMESPACE: Final = "com.amazonaws.eventbridgev2#"
_SERVER_ERRORS: Final = 500


class ErrorStyle(NamedTuple):
    """The form in which a service writes errors."""

    write: Callable[[int, str, str, str], Reply]
    """Takes status, code, message and request id."""
    unauthenticated: Mapping[AuthFault, tuple[int, str]]
    """Status and code for a request whose sender is not known."""

    def refuse(self, caller: Unauthenticated, request_id: str) -> Reply:
        """Refuse a request whose sender is not known."""
        return self.write(*self.unauthenticated[caller.fault], caller.message, request_id)


def json_error(status: int, code: str, message: str, request_id: str) -> Reply:
    """Write an error of a JSON service; clients read ``__type`` in the body."""
    return Reply(status, orjson.dumps({"__type": code, "message": message}), JSON_1_1, request_id, code)


def cbor_error(status: int, code: str, message: str, request_id: str) -> Reply:
    """Write an error of a service that speaks Smithy's RPC v2 CBOR; clients read ``__type`` in the body."""
    body = cbor2.dumps({"__type": f"{_V2_NAMESPACE}{code}", "Message": message})
    return Reply(status, body, _CBOR, request_id, code)


def cbor_result(fields: dict[str, Any], request_id: str) -> Reply:
    """Write a result of such a service."""
    return Reply(200, cbor2.dumps(fields), _CBOR, request_id)


def xml_error(status: int, code: str, message: str, request_id: str) -> Reply:
    """Write an error of STS."""
    side = "Sender" if status < _SERVER_ERRORS else "Receiver"
    body = (
        f'<ErrorResponse xmlns="{_STS_NAMESPACE}"><Error><Type>{side}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return Reply(status, body.encode(), "text/xml", request_id, code)


def xml_result(action: str, result: str, request_id: str) -> Reply:
    """Write a result of STS; ``result`` is XML."""
    body = (
        f'<{action}Response xmlns="{_STS_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Reply(200, body.encode(), "text/xml", request_id)
