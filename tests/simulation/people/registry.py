"""Destination documents, and the operators who put, edit, disable, delete and restore them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.document_changes import (
    delete_document,
    plan_put,
    plan_switch,
    require_keyring,
    seal_secret,
    write_document,
)
from pushrail_stream.operations.document_plan import field_of, new_name, stored_documents, write_plan
from pushrail_stream.operations.replay import ReplayLimits
from pushrail_stream.operations.resuming import FOLLOW_SECS, resume_destination
from pushrail_stream.operations.sealing_keys import generate_key
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.json_document import Switch
from pushrail_stream.registry.sealing import Place
from tests.simulation.oracle.evidence import ReplayRun
from tests.simulation.people.customers import KMS_KEY, Customer
from tests.simulation.people.drawing import EVENT_TYPES, VENDOR
from tests.simulation.people.silent import Silent
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import Plan, between, one_of

if TYPE_CHECKING:
    from tests.simulation.world import World

_SECRET: Final = "auth.secretAccessKey"
_KMS_SHARE: Final = 0.2
"""Part of the stories whose secrets are sealed under a KMS key."""
_PAUSE_SHARE: Final = 0.5
"""Share of the destinations that are paused instead of disabled."""
_TRIES: Final = 20
"""Times that a patient operator repeats a command: an outage is over by then."""
_PAUSE_SECS: Final = 10.0
"""Time between two of them, in virtual seconds."""


def document_of(world: World, customer: Customer, **changes: Any) -> bytes:
    """The document by which the customer's bus is reached now. Blocks: call it in a simulated thread."""
    destination = customer.destination
    auth: dict[str, Any] = {
        "mode": "ASSUME_ROLE",
        "roleArn": customer.role_arn,
        "externalId": customer.external_id,
    }
    if destination.mode == "ACCESS_KEY":
        place = Place(VENDOR, destination.id, _SECRET)
        sealed = require_keyring(world.settings).seal(Secret(customer.secret), place)
        auth = {"mode": "ACCESS_KEY", "accessKeyId": customer.access_key, "secretAccessKey": sealed}
    fields: dict[str, Any] = {
        "id": destination.id,
        "vendor": VENDOR,
        "customerExternalId": destination.customer,
        "type": "EVENTBRIDGE",
        "busArn": customer.bus_arn,
        "region": destination.region,
        "auth": auth,
        "enabled": destination.enabled,
        "paused": destination.paused,
        "detailFormat": destination.detail_format,
        "retry": {"maxAgeSecs": destination.max_age_secs, "maxAttempts": destination.max_attempts},
    }
    if destination.above is not None:
        payload = "data" if destination.detail_format == "cloudevents" else "payload"
        fields["filter"] = {"detail": {payload: {"amount": [{"numeric": [">", destination.above]}]}}}
    if destination.event_types:
        fields["eventTypes"] = list(destination.event_types)
    if destination.max_requests_per_second is not None:
        fields["limits"] = {"maxRequestsPerSecond": destination.max_requests_per_second}
    return json.dumps({**fields, **changes}).encode()


def prepare_registry(world: World) -> None:
    """Make the keyring and put the documents of the plan, before the first worker starts."""
    kms = KMS_KEY if world.plan.dice("keyring").random() < _KMS_SHARE else None
    generate_key(world.settings, "key-1", kms, is_dry_run=False)
    put(world, *world.customers.values())


def put(world: World, *customers: Customer, **changes: Any) -> None:
    """Put the documents of these destinations, as they are now, with these fields."""
    given = []
    for customer in customers:
        content = document_of(world, customer, **changes)
        given.append(DocumentChange(f"{customer.destination.id}.json", content))
    with _editing(world, *((document.name.removesuffix(".json"), document.content) for document in given)):
        write_plan(world.settings, plan_put(world.settings, given))


@contextmanager
def _editing(world: World, *edits: tuple[str, bytes | None]) -> Iterator[None]:
    """Tell the oracle of edits of files when they are done. It sees the records of a topic by itself."""
    yield
    if not world.settings.registry.topic:
        for destination, content in edits:
            world.edited(destination, content)


def patiently(work: Callable[[], None]) -> None:
    """Do a command again and again while it is refused. Blocks."""
    for _ in range(_TRIES):
        try:
            work()
        except OperatorError:
            time.sleep(_PAUSE_SECS)
        else:
            return
    work()


def restore_missing(world: World) -> None:
    """Put the documents that the registry does not have, or that cannot be read. Blocks."""
    found = [field_of(document, "id") for document in stored_documents(world.settings)]
    missing = [customer for name, customer in world.customers.items() if found.count(name) != 1]
    if missing:
        put(world, *missing)


def any_destination(dice: Random, plan: Plan) -> str:
    return dice.choice(plan.destinations).id


@trouble(2.0, least="calm", destination=any_destination, event_types=one_of([], ["order.*"], [EVENT_TYPES[0]], ["*"]))
def edit_destination(world: World, *, destination: str, event_types: list[str]) -> None:
    """An operator changes the filter of a destination."""
    customer = world.customers[destination]
    customer.destination = replace(customer.destination, event_types=tuple(event_types))
    world.office.do("put", put, world, customer)


@trouble(1.0, least="calm", destination=any_destination, per_second=one_of(0.5, 3.0, 50.0, None))
def limit_destination(world: World, *, destination: str, per_second: float | None) -> None:
    """An operator changes the limit of a destination."""
    customer = world.customers[destination]
    customer.destination = replace(customer.destination, max_requests_per_second=per_second)
    world.office.do("put", put, world, customer)


@trouble(1.5, least="calm", destination=any_destination, secs=between(5, 120))
def disable_destination(world: World, *, destination: str, secs: float) -> None:
    """An operator disables or pauses a destination, and lets it take events again: after a pause, also those before."""
    if world.plan.dice(f"pause {destination} for {secs}").random() < _PAUSE_SHARE:
        _switch(world, destination, "paused", on=True)
        world.mend_later(secs, f"resume {destination}", lambda: _resume(world, destination))
        return
    _switch(world, destination, "enabled", on=False)
    world.mend_later(secs, f"enable {destination}", lambda: _switch(world, destination, "enabled", on=True))


def _resume(world: World, destination: str) -> None:
    change = _change(world, destination, "paused", on=False)

    def resume() -> int:
        patiently(change)
        time.sleep(FOLLOW_SECS)
        begun_at = world.scheduler.now
        _, replays = resume_destination(world.settings, destination, ReplayLimits(), Silent())
        for one in replays:
            run = ReplayRun(begun_at, world.scheduler.now, one.replay_id, one.chosen.total())
            world.evidence.replays.append(run)
        return sum(one.chosen.total() for one in replays)

    world.office.do("resume", resume)


def _switch(world: World, destination: str, name: Switch, *, on: bool) -> None:
    world.office.do(f"{name} {on}", patiently, _change(world, destination, name, on=on))


def _change(world: World, destination: str, name: Switch, *, on: bool) -> Callable[[], None]:
    customer = world.customers[destination]
    before = customer.destination
    customer.destination = replace(before, enabled=on) if name == "enabled" else replace(before, paused=on)

    def change() -> None:
        changes = plan_switch(world.settings, [destination], name, on=on)
        with _editing(world, (destination, changes[0].after)):
            write_plan(world.settings, changes)

    return change


@trouble(1.5, destination=any_destination, secs=between(5, 200))
def delete_destination(world: World, *, destination: str, secs: float) -> None:
    """An operator deletes a document, and puts it back later."""

    def delete() -> None:
        with _editing(world, (destination, None)):
            delete_document(world.settings, destination, lambda _name: None, is_dry_run=False)

    world.office.do("delete", delete)
    world.mend_later(secs, f"restore {destination}", lambda: restore(world, destination))


def restore(world: World, destination: str) -> None:
    """Put the document as the plan had it, with the present credentials."""
    world.office.do("put", patiently, partial(put, world, world.customers[destination]))


_BROKEN: Final = one_of("{", "[]", '{"id": "dst_0_0"}', "\x00", '{"id": "dst_0_0", "enabled": "yes"}')


@trouble(1.0, destination=any_destination, content=_BROKEN, secs=between(5, 90))
def garble_document(world: World, *, destination: str, content: str, secs: float) -> None:
    """Another program writes something into the registry that is no document. The last good one stays in use.

    Later it writes the document. A put may be refused: the content may name another destination.
    """

    def write(made: Callable[[], bytes]) -> None:
        written = made()
        with _editing(world, (destination, written)):
            write_document(world.settings, new_name(world.settings, destination), written)

    def mend() -> None:
        made = partial(document_of, world, world.customers[destination])
        world.office.do("mend", patiently, partial(write, made))

    world.office.do("garble", write, content.encode)
    world.mend_later(secs, f"restore {destination}", mend)


@trouble(1.0, destination=any_destination)
def seal_new_secret(world: World, *, destination: str) -> None:
    """A customer rotates an access key: the new one is made, sealed into the document, and the old one deleted.

    The old one stays when the new one cannot be sealed: with the document's only key deleted, nothing would heal it.
    """
    customer = world.customers[destination]
    if customer.destination.mode != "ACCESS_KEY":
        return
    old = customer.make_access_key()

    def seal() -> None:
        ask = lambda: Secret(customer.secret)  # noqa: E731 - one line says it
        seal_secret(world.settings, destination, ask, customer.access_key, is_dry_run=False)
        sealed = (one.content for one in stored_documents(world.settings) if field_of(one, "id") == destination)
        for content in sealed if not world.settings.registry.topic else ():
            world.edited(destination, content)
        world.later(60.0, lambda: customer.delete_access_key(old))

    world.office.do("seal", seal)


def _any_customer(dice: Random, plan: Plan) -> str:
    return dice.choice(plan.customers)


@trouble(0.7, destination=any_destination, customer=_any_customer, secs=between(10, 200))
def reassign_destination(world: World, *, destination: str, customer: str, secs: float) -> None:
    """An operator gives a destination's id to another customer with a bus of its own, and back later."""
    before = world.customers[destination]
    planned = next(one for one in world.plan.destinations if one.id == destination)
    if customer == planned.customer or before.destination.customer != planned.customer:
        return
    account = next(one.account for one in world.plan.destinations if one.customer == customer)
    after = Customer(world, replace(before.destination, customer=customer, account=account))
    after.open_account()
    _assign(world, destination, after)
    world.mend_later(secs, f"owner of {destination}", partial(_assign, world, destination, before))


def _assign(world: World, destination: str, customer: Customer) -> None:
    world.customers[destination] = customer
    restore(world, destination)
