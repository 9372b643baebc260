"""Documents over time."""

from __future__ import annotations

import pytest

from tests.simulation.oracle.deliveries import PROMPT_SECS
from tests.simulation.oracle.documents import STALE_SECS, Documents, read_version
from tests.simulation.oracle.evidence import Disturbance, DocumentEdit
from tests.simulation.oracle.told import CUSTOMER, ONE, ROLE, Told
from tests.support.samples import decode_example

OWNER = ("acme", CUSTOMER)


def documents(told: Told) -> Documents:
    return Documents(told.evidence.edits)


def test_a_document_that_was_always_there_is_certain() -> None:
    told = Told()
    told.document(0.0)
    assert list(documents(told).certain(OWNER, 1_000.0, 1_001.0)) == [ONE]
    assert documents(told).certain(("acme", "other"), 1_000.0, 1_001.0) == {}


def test_a_new_document_becomes_certain_when_every_worker_has_it() -> None:
    told = Told()
    told.document(900.0)
    found = documents(told)
    assert found.certain(OWNER, 1_000.0, 1_001.0) == {}
    assert [one.destination for one in found.possible(OWNER, 1_000.0, 1_001.0)] == [ONE]
    assert list(found.certain(OWNER, 900.0 + STALE_SECS + 1, 2_000.0)) == [ONE]


def test_a_document_that_was_there_before_the_first_worker_is_certain() -> None:
    told = Told()
    told.document(899.0, enabled=False)
    told.document(900.0)
    told.evidence.disturbances.append(Disturbance(901.0, 901.0, "start", "worker-1"))
    told.document(902.0, name="dst_two", busArn="arn:two")
    found = told.story.documents.certain(OWNER, 903.0, 904.0)
    assert {name: [version.is_enabled for version in versions] for name, versions in found.items()} == {ONE: [True]}


def test_both_versions_of_an_edit_are_told() -> None:
    told = Told()
    told.document(0.0, eventTypes=["order.*"])
    told.document(1_000.5, enabled=False)
    versions = documents(told).certain(OWNER, 1_000.0, 1_001.0)[ONE]
    assert [version.takes(decode_example()) for version in versions] == [True, False]
    assert [version.wants(decode_example(eventType="invoice.paid")) for version in versions] == [False, True]


def test_a_filter_asks_for_amounts() -> None:
    told = Told()
    told.document(0.0, filter={"detail": {"payload": {"amount": [{"numeric": [">", 5]}]}}})
    told.document(
        1_000.5, filter={"detail": {"data": {"amount": [{"numeric": [">", 50]}]}}}, detailFormat="cloudevents"
    )
    versions = documents(told).certain(OWNER, 1_000.0, 1_001.0)[ONE]
    wanted = [[version.wants(decode_example(payload=payload)) for version in versions] for payload in (
        {"amount": 51}, {"amount": 50}, {"amount": 5}, {},
    )]  # fmt: skip
    assert wanted == [[True, True], [True, False], [False, False], [False, False]]


def test_an_id_that_goes_to_another_customer_is_certain_for_neither() -> None:
    told = Told()
    told.document(0.0)
    told.document(1_000.5, customerExternalId="acct_two")
    assert documents(told).certain(OWNER, 1_000.0, 1_001.0) == {}


def test_destinations_that_shared_a_bus_are_one_group() -> None:
    told = Told()
    told.document(0.0)
    told.document(1.0, name="dst_two")
    told.document(2.0, name="dst_three", busArn="arn:three")
    found = documents(told)
    assert found.group("dst_two") == found.group(ONE)
    assert found.members(found.group(ONE)) == {ONE, "dst_two"}
    assert found.group_of_bus("arn:three") == "dst_three"
    assert found.group_of_bus("arn:none") is None
    assert found.groups_behind(ROLE) == {found.group(ONE), "dst_three"}


def test_a_document_that_breaks_a_rule_is_unusable() -> None:
    told = Told()
    told.document(0.0)
    assert not documents(told).was_unusable(ONE, 1_000.0)
    told.document(900.0, region="eu-west-1")
    assert documents(told).was_unusable(ONE, 1_000.0)


def test_limits_of_calls_are_told() -> None:
    told = Told()
    told.document(0.0, limits={"maxInFlight": 3})
    assert documents(told).call_limits(ONE, 8) == [3]
    assert documents(told).rate_limit(ONE) is None
    told.document(1.0, limits={"maxRequestsPerSecond": 5})
    assert documents(told).call_limits(ONE, 8) == [8]
    limited = Told()
    limited.document(0.0, limits={"maxRequestsPerSecond": 5})
    assert documents(limited).rate_limit(ONE) == 5
    assert documents(limited).rate_limit("dst_none") is None


def test_a_lower_limit_counts_once_no_worker_has_the_former_one() -> None:
    told = Told()
    told.document(0.0, limits={"maxRequestsPerSecond": 5})
    told.document(1_000.0, limits={"maxRequestsPerSecond": 0.5})
    assert documents(told).rate_limit(ONE) == 5
    assert documents(told).rate_limit(ONE, 1_299.0) == 5
    assert documents(told).rate_limit(ONE, 1_301.0) == 0.5
    assert documents(told).rate_limit("dst_none", 1_301.0) is None
    told.document(2_000.0)
    assert documents(told).rate_limit(ONE, 1_301.0) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"id": 1}'])
def test_a_document_that_names_no_destination_cannot_be_read(content: bytes) -> None:
    assert read_version(content) is None
    found = Documents([DocumentEdit(0.0, ONE, content)])
    assert found.possible(OWNER, 0.0, 1.0) == []


def test_every_worker_has_the_newest_version_soon_after_a_disturbance() -> None:
    told = Told()
    told.evidence.disturbances.append(Disturbance(1_000.0, 1_010.0, "log"))
    story = told.story
    assert [story.stale_secs(at) for at in (999.0, 1_005.0, 1_069.0, 1_071.0)] == [
        PROMPT_SECS,
        STALE_SECS,
        STALE_SECS,
        PROMPT_SECS,
    ]
