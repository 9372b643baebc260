"""Reads the inboxes of a bus that runs in another process."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from pushrail_stream.errors import OperatorError

_TIMEOUT_SECS: Final = 10.0
"""Longest wait for the bus, in seconds: it looks through all of its arrivals."""


def read_inbox(url: str, *, limit: int, rule: str | None = None, key: str | None = None) -> list[dict[str, Any]]:
    """The events that event rules of the bus at ``url`` matched last, oldest first: atMs, bus, rules and event of each.

    Only those of this rule or idempotency key if one is given. Raises `OperatorError` when no such bus answers.
    """
    wanted = {name: value for name, value in (("limit", limit), ("rule", rule), ("key", key)) if value is not None}
    opener = build_opener(ProxyHandler({}))  # the bus is on this machine
    try:
        with opener.open(f"{url.rstrip('/')}/_bus/inbox?{urlencode(wanted)}", timeout=_TIMEOUT_SECS) as answer:
            events: list[dict[str, Any]] = json.load(answer)["events"]
    except (URLError, TimeoutError, ValueError, LookupError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise OperatorError(f"no bus of a sandbox answers at {url}: {reason}") from error
    return events
