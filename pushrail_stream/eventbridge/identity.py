"""Who we are: the account of our own base credentials."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final, NamedTuple

from aiobotocore.session import get_session

from pushrail_stream.core.outcome import CallFailed
from pushrail_stream.eventbridge.own_keys import OwnKeys
from pushrail_stream.eventbridge.sts import StsEndpoint, StsOptions

PATIENCE_SECS: Final = 20.0
"""How long a command waits for our own credentials: a credential process may ask a person's password manager."""


class UnknownIdentity(Exception):  # noqa: N818 - it is the sentence a person reads
    """STS did not say who we are. The message says why."""


class OwnAccount(NamedTuple):
    """An AWS account and where it is."""

    account: str
    partition: str
    """As ARNs name it (``aws``, ``aws-cn``, ...). No role of another partition can be assumed."""


async def own_account(*, region: str, endpoint_url: str | None, timeout_secs: float) -> OwnAccount:
    """The account of the process's standard credentials; raises `UnknownIdentity`."""
    session = get_session()
    options = StsOptions(
        region=region,
        endpoint_url=endpoint_url,
        connect_timeout_secs=timeout_secs,
        read_timeout_secs=timeout_secs,
        user_agent=session.user_agent(),
    )
    keys = await OwnKeys(lambda: datetime.now(UTC), PATIENCE_SECS).keys()
    if isinstance(keys, CallFailed):
        raise UnknownIdentity(keys.message)
    async with AsyncExitStack() as stack:
        sts = await StsEndpoint.open(options, session, stack)
        identity = sts if isinstance(sts, CallFailed) else await sts.whose(keys)
        if isinstance(identity, CallFailed):
            raise UnknownIdentity(f"{identity.code}: {identity.message}")
        return OwnAccount(identity.account, identity.arn.split(":")[1])
