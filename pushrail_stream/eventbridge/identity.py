"""Who we are: the account of our own base credentials."""

from __future__ import annotations

from typing import NamedTuple

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from pushrail_stream.core.text import safe_message


class UnknownIdentity(Exception):  # noqa: N818 - it is the sentence a person reads
    """STS did not say who we are. The message says why."""


class OwnAccount(NamedTuple):
    """An AWS account and where it is."""

    account: str
    partition: str
    """``aws``, ``aws-cn`` or ``aws-us-gov``: no role is assumed across."""


async def own_account(*, region: str, endpoint_url: str | None, timeout_secs: float) -> OwnAccount:
    """The account of the process's standard credentials; raises `UnknownIdentity`."""
    config = AioConfig(connect_timeout=timeout_secs, read_timeout=timeout_secs, retries={"total_max_attempts": 1})
    try:
        async with get_session().create_client(
            "sts", region_name=region, endpoint_url=endpoint_url, config=config
        ) as client:
            identity = await client.get_caller_identity()
            return OwnAccount(identity["Account"], identity["Arn"].split(":")[1])
    except (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError) as error:
        raise UnknownIdentity(safe_message(str(error))) from error
    except (KeyError, IndexError) as error:
        raise UnknownIdentity("what STS answered is no identity") from error
