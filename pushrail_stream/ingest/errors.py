"""Refusals of requests as answers: RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from pushrail_stream.core.event import Undecodable
from pushrail_stream.core.text import safe_message

PROBLEM_TYPE: Final = "application/problem+json"
PROBLEMS: Final = {
    400: ("bad-request", "The request cannot be understood"),
    401: ("unauthorized", "An API key is needed"),
    403: ("wrong-vendor", "The key is for another vendor"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "Not by this method"),
    408: ("too-slow", "The request did not come in time"),
    411: ("length-required", "The body's length is not told"),
    413: ("too-large", "The body, or an event, is too large"),
    415: ("media-type", "The body is of another media type"),
    422: ("invalid-events", "An event breaks a rule; none was taken"),
    429: ("too-many-events", "The key's rate is used up"),
    431: ("head-too-large", "The request's head is too large"),
    500: ("error", "The service failed"),
    503: ("unavailable", "Not now"),
}
"""The name and the title of each status that refuses a request."""


class HttpProblem(Exception):  # noqa: N818 - it is an answer
    """A request is refused."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        """``members`` go into the body, beside the members that every problem has."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self) -> bytes:
        """The answer's JSON."""
        name, title = PROBLEMS.get(self.status, ("other", "The request was not taken"))
        kind = f"urn:pushrail:problem:{name}"
        return orjson.dumps(
            {"type": kind, "title": title, "status": self.status, "detail": self.detail, **self.members}
        )

    def response(self) -> Response:
        """The answer."""
        return Response(self.body(), self.status, self.headers, PROBLEM_TYPE)


def broken_rule(problem: Undecodable) -> HttpProblem:
    """The refusal of a request as a whole."""
    return HttpProblem(422, str(problem), errors=[field_error(problem, None)])


def field_error(problem: Undecodable, index: int | None) -> dict[str, Any]:
    """One broken rule of the event at ``index`` of an array, or of the only event."""
    path = [] if index is None else [str(index)]
    if problem.field != "value":
        path.append(problem.field)
    error: dict[str, Any] = {"field": problem.field, "detail": safe_message(problem.problem)}
    if problem.field != "Idempotency-Key":
        error["pointer"] = "".join(["#", *(f"/{part}" for part in path)])
    return error if index is None else {"index": index, **error}
