"""The settings' choices for the pipeline, as the one value that it gets."""

from __future__ import annotations

import sys
from typing import Final

from pushrail_stream.core.batch import LaneLimits
from pushrail_stream.core.event import Decode
from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.core.pacing import Backoff
from pushrail_stream.core.retry import RetryPolicy, Tier
from pushrail_stream.formats.decoding import DECODERS
from pushrail_stream.pipeline.policy import BufferLimits, Policy
from pushrail_stream.settings.model import Settings

_RETRY_SHARE: Final = 0.25
"""Share of a worker's buffer for the retry topics, so that a backlog of retries never delays new events."""


def decoder_of(settings: Settings) -> Decode:
    """The decoder of records."""
    return DECODERS[settings.events.format]


def policy_of(settings: Settings) -> Policy:
    """The pipeline's policy. Its defaults are those of the settings."""
    delivery, limits, flood = settings.delivery, settings.limits, settings.flood_guard
    tiers = tuple(Tier(topic, secs) for topic, secs in settings.topics.retry.items())
    buffer = BufferLimits(limits.max_buffered_events, limits.max_buffered_mib * 2**20)
    min_dead = flood.min_dead_letters if flood.enabled else sys.maxsize
    return Policy(
        vendor=settings.vendor,
        decode=decoder_of(settings),
        names_customers=settings.events.format != "cloudevents",  # in binary mode, a header names it
        dead_letter_unrouted=delivery.unrouted == "dlq",
        dlq=settings.topics.dlq,
        lanes=LaneLimits(delivery.max_entries, delivery.max_request_bytes, delivery.hold_secs),
        retry=RetryPolicy(Backoff(delivery.backoff_base_secs, delivery.backoff_cap_secs), delivery.retry_bounds, tiers),
        event_buffer=buffer.part(1 - _RETRY_SHARE),
        retry_buffer=buffer.part(_RETRY_SHARE),
        flood=FloodLimits(flood.window_secs, min_dead, flood.share, flood.min_customers),
    )
