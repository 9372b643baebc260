"""Refused calls: the code and the message of a reply that is no success, and refusals by proxies.

No content of a reply makes reading it raise: proxies answer for AWS with HTML, redirects and empty bodies. An error
code is in the body's ``__type``, else in the header ``x-amzn-ErrorType``, else in the body's ``code``; without any of
them the HTTP status is the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, final

import orjson

from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import CallFailed, Operation
from pushrail_stream.eventbridge.http import HttpReply

_ERROR_TYPE: Final = b"x-amzn-errortype"
_QUERY_ERROR: Final = b"x-amzn-query-error"
"""``CODE;FAULT``: replaces the code in the body, as in botocore."""
_REDIRECT: Final = 301
"""The first HTTP status that botocore treats as an error."""
_SERVER_ERROR: Final = 500
_STATUS_NAMES: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus}
_CODE: Final = re.compile(r"(?:[^:]*#)?([A-Za-z0-9_.-]{1,128})(?::.*)?", re.DOTALL)
"""An error code, perhaps after a namespace (``com.amazonaws.events#``) and before a URL (``:http://...``)."""
SEVERAL: Final = 2
"""Destinations that a proxy or firewall must refuse before the refusals count as our own fault."""


@final
class ProxyRefusals:
    """The destinations that a proxy or firewall has refused since AWS last answered a call to this endpoint.

    A proxy treats all customers alike: when it refuses several destinations and AWS answers none, the fault is ours.
    """

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def answered(self) -> None:
        """AWS answered a call to this endpoint."""
        self._refused.clear()

    def refused(self, destination_id: str) -> bool:
        """Note that a call for this destination was refused on its way to AWS; return whether that is our own fault."""
        if len(self._refused) < SEVERAL:
            self._refused.add(destination_id)
        return len(self._refused) >= SEVERAL


def refusal(operation: Operation, reply: HttpReply, fields: Mapping[str, Any]) -> CallFailed:
    """The failure that a reply without success means. ``fields``: those of its body; empty when it has none."""
    if reply.status < _REDIRECT:
        return reply.unreadable(operation, "is no answer")
    code = (
        code_of((reply.header(_QUERY_ERROR) or "").partition(";")[0])
        or code_of(fields.get("__type"))
        or code_of(reply.header(_ERROR_TYPE))
        or code_of(fields.get("code"))
        or code_of(fields.get("Code"))
        or str(reply.status)
    )
    message = fields.get("message", fields.get("Message")) if fields else _page(reply)
    return reply.failed(operation, code, safe_message(text_of(message) or ""))


def json_fields(content: bytes) -> dict[str, Any]:
    """The body's JSON object; empty when the body is not one."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


def code_of(value: Any) -> str | None:
    """The error code in a field of a reply."""
    found = _CODE.fullmatch(value) if type(value) is str else None
    return found and found[1]


def text_of(value: Any) -> str | None:
    """The text in a field of a reply."""
    return value if type(value) is str else None


def _page(reply: HttpReply) -> str:
    """The text of a body without fields; for a server's error page, only the name of its status."""
    page = reply.content.decode(errors="replace")
    is_error_page = reply.status >= _SERVER_ERROR and page.strip().startswith(("<html>", "<!DOCTYPE"))
    return _STATUS_NAMES.get(reply.status, "") if is_error_page or not page.strip() else page
