"""Signature Version 4, checked as AWS checks it (Signature Version 4 signing process, AWS General Reference).

The payload hash is always computed from the body that arrived, so a body changed in flight fails too.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import parse_qsl, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from pushrail_stream.sandbox.bus.identity import Credential, Directory
    from pushrail_stream.sandbox.bus.wire import Request

MAX_SKEW_SECS = 300
"""The largest difference between the request's clock and ours (AWS's limit)."""
_CACHE_LIMIT = 4096
"""Entries of each cache: more than the keys of any test."""
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([\w-]{4,128})/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request *, *"
    r"SignedHeaders=([a-z0-9;-]+) *, *",
    re.ASCII,
)
_TIMESTAMP = re.compile(rb"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
# Headers that must be signed where they are present.
_MUST_SIGN = (b"host", b"x-amz-date", b"x-amz-security-token", b"x-amz-target")

AuthFault = Literal["missing", "incomplete", "unknown", "expired", "signature"]

_INVALID_TOKEN = "The security token included in the request is invalid."  # noqa: S105 - AWS's sentence, no password
EXPIRED_TOKEN = "The security token included in the request is expired"  # noqa: S105 - AWS's sentence, no password
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class Unauthenticated(NamedTuple):
    """The reason for a refusal; each service has a status and a code of its own for it."""

    fault: AuthFault
    message: str


class Caller(NamedTuple):
    """The sender of a request, and the region that it was signed for."""

    credential: Credential
    region: str


class _Scope(NamedTuple):
    """The part of an Authorization header that a client repeats in every request."""

    access_key: str
    date: str
    region: str
    service: str
    signed_text: bytes
    signed: tuple[bytes, ...]


class Verifier:
    """Checks requests against a directory. Without ``check_signatures`` a known key in a valid header suffices."""

    def __init__(self, directory: Directory, clock: Callable[[], float], *, check_signatures: bool) -> None:
        self._directory = directory
        self._clock = clock
        self._check = check_signatures and not directory.is_open

    def verify(self, request: Request, service: str) -> Caller | Unauthenticated:
        """Return the signer of this request for ``service`` (``events`` or ``sts``)."""
        header = request.headers.get(b"authorization")
        if header is None:
            return Unauthenticated("missing", "Missing Authentication Token")
        prefix, _, signature = header.partition(b"Signature=")
        scope = _read_scope(prefix)
        if scope is None or not signature:
            return Unauthenticated("incomplete", f"Authorization header is malformed: '{header.decode('latin-1')}'.")
        credential = self._directory.credential(scope.access_key)
        if credential is None:
            return Unauthenticated("unknown", _INVALID_TOKEN)
        fault = self._token_fault(request, credential)
        if fault is None and self._check:
            fault = self._signature_fault(request, service, scope, credential.secret, signature)
        return Caller(credential, scope.region) if fault is None else fault

    def _token_fault(self, request: Request, credential: Credential) -> Unauthenticated | None:
        token = request.headers.get(b"x-amz-security-token")
        expected = credential.session_token
        if not self._directory.is_open and (token.decode("latin-1") if token else None) != expected:
            return Unauthenticated("unknown", _INVALID_TOKEN)
        if credential.expires_at is not None and self._clock() >= credential.expires_at:
            return Unauthenticated("expired", EXPIRED_TOKEN)
        return None

    def _signature_fault(
        self, request: Request, service: str, scope: _Scope, secret: str, signature: bytes
    ) -> Unauthenticated | None:
        headers = request.headers
        stamp = headers.get(b"x-amz-date", b"")
        signed_at = _epoch(stamp)
        if signed_at is None:
            wanted = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
            return Unauthenticated("incomplete", wanted)
        if scope.service != service:
            return Unauthenticated("signature", f"Credential should be scoped to correct service: '{service}'. ")
        if any(name in headers and name not in scope.signed for name in _MUST_SIGN):
            return Unauthenticated("signature", "'Host' and every 'X-Amz-' header must be a 'SignedHeader'. ")
        late = _skew_fault(stamp, signed_at, self._clock())
        if late is not None:
            return late
        expected = self._sign(request, scope, secret, stamp)
        return None if hmac.compare_digest(expected, signature.strip()) else Unauthenticated("signature", _MISMATCH)

    def _sign(self, request: Request, scope: _Scope, secret: str, stamp: bytes) -> bytes:
        headers = request.headers
        lines = b"".join([b"%b:%b\n" % (name, _trimmed(headers.get(name, b""))) for name in scope.signed])
        canonical = b"%b\n%b\n%b\n%b\n%b\n%b" % (
            request.method,
            b"/" if request.path == "/" else quote(request.path, safe="/-_.~").encode(),
            _canonical_query(request.query) if request.query else b"",
            lines,
            scope.signed_text,
            hashlib.sha256(request.body).hexdigest().encode(),
        )
        to_sign = b"AWS4-HMAC-SHA256\n%b\n%b\n%b" % (
            stamp,
            f"{scope.date}/{scope.region}/{scope.service}/aws4_request".encode(),
            hashlib.sha256(canonical).hexdigest().encode(),
        )
        return hmac.digest(_signing_key(secret, scope), to_sign, "sha256").hex().encode()


@lru_cache(_CACHE_LIMIT)
def _read_scope(prefix: bytes) -> _Scope | None:
    """Read the part of an Authorization header before the signature; None when it is malformed."""
    found = _HEADER.fullmatch(prefix.decode("latin-1"))
    if found is None:
        return None
    signed_text = found[5].encode()
    return _Scope(found[1], found[2], found[3], found[4], signed_text, tuple(signed_text.split(b";")))


@lru_cache(_CACHE_LIMIT)
def _signing_key(secret: str, scope: _Scope) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _trimmed(value: bytes) -> bytes:
    return b" ".join(value.split()) if b"  " in value else value.strip()


def _canonical_query(query: str) -> bytes:
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs).encode()


def _epoch(stamp: bytes) -> int | None:
    found = _TIMESTAMP.fullmatch(stamp)
    return calendar.timegm(tuple(map(int, found.groups()))) if found else None


def _skew_fault(stamp: bytes, signed_at: int, now: float) -> Unauthenticated | None:
    if abs(now - signed_at) <= MAX_SKEW_SECS:
        return None
    time = stamp.decode()
    if signed_at < now:
        text = f"expired: {time} is now earlier than {_basic(now - MAX_SKEW_SECS)} ({_basic(now)} - 5 min.)"
    else:
        text = f"not yet current: {time} is still later than {_basic(now + MAX_SKEW_SECS)} ({_basic(now)} + 5 min.)"
    return Unauthenticated("signature", f"Signature {text}")


def _basic(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%SZ")
