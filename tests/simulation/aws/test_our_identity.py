from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.eventbridge.bus import EventBridge
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.one_host import OneHost
from tests.simulation.aws.our_identity import OurIdentity
from tests.support.eventbridge_world import ASSUME, to

ARN = "arn:aws:iam::999999999999:user/vendor"
_UNTIL_READ_AGAIN_SECS = 60.0
"""Longer than the product uses one reading of the chain."""


def with_identity(path: Path, story: Callable[[EventBridge, Cloud, OurIdentity], Awaitable[None]]) -> None:
    world = OneHost()
    us = OurIdentity(world.cloud.accounts, Random(1), ARN, path / "credentials")

    async def run(bus: EventBridge, cloud: Cloud) -> None:
        await story(bus, cloud, us)

    world.run(run, environ=us.environment)


async def delivered(bus: EventBridge, name: str) -> bool:
    """Whether a destination that needs a new session is delivered to. A failure is our own."""
    outcomes = (await bus.put(to(ASSUME, name), refreshed=False)).outcomes(2)
    if all(isinstance(one, Delivered) for one in outcomes):
        return True
    assert all(isinstance(one, Retryable) and one.is_our_fault for one in outcomes), outcomes
    return False


def test_a_rotated_key_is_found_in_the_file(tmp_path: Path) -> None:
    async def story(bus: EventBridge, cloud: Cloud, us: OurIdentity) -> None:
        assert await delivered(bus, "dst_1")
        us.revoke()
        assert not await delivered(bus, "dst_2")
        us.create_key()
        assert await bus.check_own_credentials() is not None
        us.write()
        await asyncio.sleep(_UNTIL_READ_AGAIN_SECS)
        assert await delivered(bus, "dst_3")
        assert [call.blame for call in cloud.calls if call.code] == ["ours", "ours"]

    with_identity(tmp_path, story)


def test_a_key_that_is_deleted_does_not_expire(tmp_path: Path) -> None:
    async def story(bus: EventBridge, cloud: Cloud, us: OurIdentity) -> None:
        us.revoke()
        us.expire(cloud.state.clock() + 1_000)
        assert cloud.accounts.credential(us.access_key) is None
        assert not await delivered(bus, "dst_1")

    with_identity(tmp_path, story)


def test_an_expired_key_is_our_own_fault(tmp_path: Path) -> None:
    async def story(bus: EventBridge, cloud: Cloud, us: OurIdentity) -> None:
        us.expire(cloud.state.clock() + 10)
        assert await delivered(bus, "dst_1")
        await asyncio.sleep(11)
        assert not await delivered(bus, "dst_2")
        assert cloud.calls[-1].blame == "ours"

    with_identity(tmp_path, story)


def test_a_file_that_cannot_be_read_is_our_own_fault(tmp_path: Path) -> None:
    async def story(bus: EventBridge, cloud: Cloud, us: OurIdentity) -> None:
        for spoil in (us.garble_file, us.remove_file):
            spoil()
            assert not await delivered(bus, "dst_1")
            us.write()
            await asyncio.sleep(_UNTIL_READ_AGAIN_SECS)
        assert cloud.calls == []
        assert await delivered(bus, "dst_1")

    with_identity(tmp_path, story)


def test_the_permission_to_assume_roles_can_be_withdrawn(tmp_path: Path) -> None:
    async def story(bus: EventBridge, cloud: Cloud, us: OurIdentity) -> None:
        us.forbid_roles()
        await bus.put(to(ASSUME, "dst_1"), refreshed=False)
        assert (cloud.calls[-1].code, cloud.calls[-1].blame) == ("AccessDenied", "ours")
        us.allow_roles()
        assert await delivered(bus, "dst_2")

    with_identity(tmp_path, story)
