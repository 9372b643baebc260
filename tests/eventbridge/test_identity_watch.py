"""The watch on our own credentials tells of a failure without any event, and of its end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.signals import Flooded, OwnCredentialsFailed, OwnCredentialsFound, RegistryChanged, Signal
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_MISSING, CallFailed
from pushrail_stream.eventbridge.identity_watch import OwnCredentialsWatch
from tests.support.builders import destination, partner_destination, with_access_key
from tests.support.virtual_time import in_virtual_time

FAILED = CallFailed("Credentials", BASE_CREDENTIALS_MISSING, "no provider has any")


class World:
    """The destinations, the present answer about our credentials, and what was told."""

    def __init__(self) -> None:
        self.destinations: dict[str, Destination] = {}
        self.answer: CallFailed | None = FAILED
        self.checks = 0
        self.told: list[Signal] = []
        self.watch = OwnCredentialsWatch(self._check, self.destinations.get)

    async def _check(self) -> CallFailed | None:
        self.checks += 1
        return self.answer

    def put(self, one: Destination) -> None:
        self.destinations[one.id] = one
        self.watch(RegistryChanged((one.id,), (), 1, 0))

    def remove(self, one: Destination) -> None:
        del self.destinations[one.id]
        self.watch(RegistryChanged((), (one.id,), 0, 0))

    async def after(self, secs: float) -> str:
        """The problem after some time of watching."""
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self.watch.keep(self.told.append))
            await asyncio.sleep(secs)
            keeping.cancel()
        return self.watch.problem


@in_virtual_time
async def test_credentials_that_sign_for_a_partner_are_checked() -> None:
    world = World()
    world.put(partner_destination())
    assert BASE_CREDENTIALS_MISSING in await world.after(1)


@in_virtual_time
async def test_credentials_that_no_destination_needs_are_not_checked() -> None:
    world = World()
    world.put(with_access_key("key"))
    world.put(replace(destination("disabled"), enabled=False))
    world.watch(Flooded(FloodReport(10, 9, 8, 7, 60)))
    assert await world.after(300) == ""
    assert (world.checks, world.told) == (0, [])


@in_virtual_time
async def test_a_failure_is_told_at_once_and_again_until_it_ends() -> None:
    world = World()
    world.put(destination())
    assert await world.after(1) == "BaseCredentialsMissing: no provider has any"
    failed = OwnCredentialsFailed("BaseCredentialsMissing", "no provider has any")
    assert world.told == [failed]
    await world.after(25)
    assert world.told == [failed] * 4, "every ten seconds"
    world.answer = None
    assert await world.after(1) == ""
    assert world.told == [*[failed] * 4, OwnCredentialsFound()]
    checks = world.checks
    await world.after(125)
    assert world.checks == checks + 3, "every minute while they work"


@in_virtual_time
async def test_the_first_role_starts_the_checks_and_the_last_one_ends_them() -> None:
    world, role = World(), destination()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(world.watch.keep(world.told.append))
        await asyncio.sleep(100)
        world.put(role)
        await asyncio.sleep(1)
        assert world.watch.problem
        world.remove(role)
        await asyncio.sleep(20)
        assert (world.watch.problem, world.told[-1]) == ("", OwnCredentialsFound())
        keeping.cancel()
    assert world.checks == 1


def test_the_destinations_whose_role_is_assumed_are_known() -> None:
    world = World()
    for one in (destination("one"), with_access_key("key"), replace(destination("disabled"), enabled=False)):
        world.put(one)
    world.put(destination("two"))
    world.remove(destination("one"))
    assert [one.id for one in world.watch.destinations()] == [destination("two").id]
