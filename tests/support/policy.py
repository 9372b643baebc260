"""The pipeline's limits by default, and with changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from pushrail_stream.core.batch import LaneLimits
from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.pipeline.policy import BufferLimits
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.policy import policy_of

POLICY: Final = policy_of(Settings())
TIERS: Final = POLICY.retry.tiers
"""The retry topics, shortest delay first."""


def lane_limits(**changes: Any) -> LaneLimits:
    return replace(POLICY.lanes, **changes)


def retry_policy(**changes: Any) -> RetryPolicy:
    """``changes``: fields of the policy, and those of its bounds."""
    bounds = {name: changes.pop(name) for name in ("max_age_secs", "max_attempts") if name in changes}
    return replace(POLICY.retry, bounds=replace(POLICY.retry.bounds, **bounds), **changes)


def buffer_limits(**changes: Any) -> BufferLimits:
    return replace(POLICY.event_buffer, **changes)


def flood_limits(**changes: Any) -> FloodLimits:
    return replace(POLICY.flood, **changes)
