"""The demo's customers: their documents are valid, and two of them make a mistake."""

from __future__ import annotations

import json

import pytest

from pushrail_stream.registry.documents import Parsed, parse_document
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.sandbox.demo.customers import BUS, CUSTOMERS, NOBODY, Customer, set_up
from pushrail_stream.settings.eventbridge import AssumeRole


@pytest.mark.parametrize("customer", CUSTOMERS, ids=lambda customer: customer.external_id)
def test_every_document_is_valid(customer: Customer) -> None:
    for document, target in zip(customer.documents(), customer.targets, strict=True):
        found = parse_document(json.dumps(document).encode(), environ={}, default_max_in_flight=8)
        assert isinstance(found, Parsed), found
        destination = found.destination
        assert (destination.id, destination.enabled) == (target.id, target.enabled)
        assert destination.bus.region == target.region
        assert destination.event_types == target.event_types
        assert destination.customer_external_id == customer.external_id != NOBODY
        assert isinstance(destination.bus.auth, AssumeRole)
        assert destination.bus.auth.external_id == customer.role_external_id
        assert destination.bus.arn.endswith(f":{customer.account}:event-bus/{BUS}")


def test_customers_share_no_account_and_no_id() -> None:
    assert len({customer.account for customer in CUSTOMERS}) == len(CUSTOMERS)
    ids = [target.id for customer in CUSTOMERS for target in customer.targets]
    assert len(set(ids)) == len(ids)


def test_each_mistake_is_made_once() -> None:
    assert sorted(c.access for c in CUSTOMERS if c.access != "granted") == ["no PutEvents", "wrong external ID"]


async def test_every_bus_gets_its_rules() -> None:
    async with FaultBus.serve() as bus:
        set_up(bus)
        for customer in CUSTOMERS:
            for target in customer.targets:
                for rule in customer.onboarding(target).rules():
                    assert bus.event_rules.inbox(customer.onboarding(target).bus_arn, rule) == []
