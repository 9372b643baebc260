"""Who we are: the account of our own base credentials."""

from __future__ import annotations

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from pushrail_stream.core.text import safe_message


class UnknownIdentity(Exception):  # noqa: N818 - it is the sentence a person reads
    """STS did not say who we are. The message says why."""


async def own_account(*, region: str, endpoint_url: str | None, timeout_secs: float) -> str:
    """The account id of the process's standard credentials; raises `UnknownIdentity`."""
    config = AioConfig(
        connect_timeout=timeout_secs, read_timeout=timeout_secs, retries={"total_max_attempts": 1}
    )  # fmt: skip
    try:
        async with get_session().create_client(
            "sts", region_name=region, endpoint_url=endpoint_url, config=config
        ) as client:
            identity = await client.get_caller_identity()
    except (BotoCoreError, ClientError, OSError, ValueError) as error:
        raise UnknownIdentity(safe_message(str(error))) from error
    return str(identity["Account"])
