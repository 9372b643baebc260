"""AWS's time, by the ``Date`` header of an answer of STS. The call is not signed: it needs no credentials."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from pushrail_stream.eventbridge.error_codes import CallFailed
from pushrail_stream.eventbridge.http import StockClients
from pushrail_stream.eventbridge.sts import StsEndpoint
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings

MAX_SKEW: Final = timedelta(minutes=5)
"""Signature Version 4: a request must reach AWS within five minutes of its time stamp (IAM User Guide, "AWS Signature
Version 4 for API requests")."""


async def aws_time(sts: StsSettings, eventbridge: EventBridgeSettings) -> datetime | CallFailed | None:
    """The time at STS, in whole seconds; None when its answer has none."""
    async with AsyncExitStack() as stack:
        endpoint = await StsEndpoint.open(sts, StockClients(stack, eventbridge))
        if isinstance(endpoint, CallFailed):
            return endpoint
        date = await endpoint.date()
    if date is None or isinstance(date, CallFailed):
        return date
    try:
        return parsedate_to_datetime(date).replace(tzinfo=UTC)  # HTTP's dates are in GMT
    except ValueError:
        return None
