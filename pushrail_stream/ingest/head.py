"""A request's head: its framing rules (RFC 9112), and the same head without an offer to change the protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pushrail_stream.ingest.errors import HttpProblem

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields in their order; names in lower case."""

_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
"""RFC 3986 ``host`` and ``port``, by their characters."""


def check_framing(method: bytes, version: str, fields: Fields) -> None:
    """Raise `HttpProblem` for a head that does not tell where its body ends, or which host it is for.

    The parser refuses two Content-Length fields, and one beside Transfer-Encoding, by itself.
    """
    if version not in {"1.0", "1.1"} or method == b"CONNECT":
        raise HttpProblem(400, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise HttpProblem(400, f"Host: is needed once, and came {len(hosts)} times")
    if not all(_HOST.fullmatch(host.strip()) for host in hosts):
        raise HttpProblem(400, "Host: is not a host")
    codings = [value.strip().lower() for name, value in fields if name == b"transfer-encoding"]
    if not codings:
        if method in _WITH_BODY and all(name != b"content-length" for name, _ in fields):
            raise HttpProblem(411, "Content-Length: is needed, or Transfer-Encoding: chunked")
    elif codings != [b"chunked"] or version == "1.0":
        raise HttpProblem(400, "Transfer-Encoding: may only be chunked, in HTTP/1.1")


def without_upgrade(method: bytes, target: bytes, version: str, fields: Fields) -> bytes:
    """The same head without its offer of another protocol."""
    kept = (b"%s: %s\r\n" % field for field in fields if field[0] != b"upgrade")
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), b"".join(kept))
