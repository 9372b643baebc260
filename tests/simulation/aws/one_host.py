"""One host with the real EventBridge adapter, and a cloud with one customer, for the tests of this room."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Final
from unittest import mock

from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.connection import Network, install
from tests.simulation.history import History
from tests.simulation.scheduler import Scheduler
from tests.simulation.substitution import simulated
from tests.support.batches import BUS
from tests.support.eventbridge_world import ASSUME, KEY, ROLE, SECRET

OUR_ARN: Final = "arn:aws:iam::999999999999:user/pushrail"
OUR_KEY: Final = ("AKIABASE000000000000", "base-secret")
CUSTOMER_ARN: Final = "arn:aws:iam::123456789012:user/customer"
EVENTS: Final = EventBridgeSettings(endpoint_url="http://events.{region}.sim/")
STS: Final = StsSettings(endpoint_url="http://sts.us-east-1.sim/")
_LONGEST_SECS: Final = 100_000.0
"""Virtual seconds after which a story has not ended by itself."""
_AFTERMATH_SECS: Final = 1.0
"""Virtual seconds in which the last packets arrive."""
Story = Callable[[EventBridge, Cloud], Awaitable[None]]


class OneHost:
    """A world with one host, ``us``, and one cloud."""

    def __init__(self, seed: int = 1) -> None:
        self.scheduler = Scheduler()
        self.history = History(lambda: self.scheduler.now)
        self.cloud = Cloud(self.scheduler, Random(seed), self.history)
        self.network = Network(self.cloud)
        self.host = self.scheduler.host("us")
        self.seed = seed
        accounts = self.cloud.accounts
        accounts.create_our_key(OUR_ARN, *OUR_KEY)
        accounts.create_bus(BUS)
        accounts.create_role(ROLE, "999999999999", ASSUME.external_id, BUS)
        accounts.create_customer_key(CUSTOMER_ARN, KEY, SECRET, BUS)

    def run(self, story: Story, events: EventBridgeSettings = EVENTS, environ: dict[str, str] | None = None) -> None:
        """Run a story on the host to its end. Raises what it raises."""
        is_over: list[bool] = []

        async def main() -> None:
            async with EventBridge.open(events, STS) as us:
                await story(us, self.cloud)
            is_over.append(True)

        with (
            simulated(self.scheduler, self.seed, kafka=None, connect=self.network.open),
            install(self.network),
            mock.patch.dict(os.environ, environment() if environ is None else environ),
        ):
            self.host.start(lambda: asyncio.run(main()))
            is_over_in_time = self.scheduler.run_until(lambda: bool(is_over) or not self.host.is_alive, _LONGEST_SECS)
            self.scheduler.run(self.scheduler.now + _AFTERMATH_SECS)
            self.host.kill()
        assert is_over_in_time, "the story has not ended"


def environment() -> dict[str, str]:
    """Settings of AWS's library, without any file of this machine."""
    nowhere = str(Path(os.devnull))
    return {
        "AWS_ACCESS_KEY_ID": OUR_KEY[0],
        "AWS_SECRET_ACCESS_KEY": OUR_KEY[1],
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
