"""Quotas of requests, as AWS counts them: by account and region of the caller's credentials, for each API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.simulation.aws.records import Api

_DEFAULT: Final[Mapping[Api, float]] = {
    "PutEvents": 400.0,
    "DescribeEventBus": 50.0,
    "AssumeRole": 600.0,
    "GetCallerIdentity": 600.0,
    "Decrypt": 10_000.0,
    "GenerateDataKey": 10_000.0,
}
"""Requests a second (Amazon EventBridge quotas for the smaller regions; STS and KMS quotas)."""


class Quotas:
    """Token buckets that hold one second's requests."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str, Api], float] = {}
        self._buckets: dict[tuple[str, str, Api], tuple[float, float]] = {}

    def set_limit(self, account: str, region: str, api: Api, per_second: float) -> None:
        """Change a quota from now on."""
        self._limits[account, region, api] = per_second
        self._buckets.pop((account, region, api), None)

    def take(self, account: str, region: str, api: Api, now: float) -> bool:
        """Count a request; return whether it is within the quota. ``now`` in virtual seconds."""
        key = account, region, api
        limit = self._limits.get(key) or _DEFAULT[api]
        tokens, since = self._buckets.get(key, (limit, now))
        tokens = min(max(limit, 1.0), tokens + (now - since) * limit)
        is_within = tokens >= 1.0
        self._buckets[key] = (tokens - is_within, now)
        return is_within
