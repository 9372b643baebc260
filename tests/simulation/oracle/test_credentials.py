"""Calls that are signed with credentials of yesterday are found."""

from __future__ import annotations

from tests.simulation.oracle.credentials import find_old_credentials
from tests.simulation.oracle.told import Told

SESSION = "ASIASESSION"


def refused(*times: float, code: str = "AccessDeniedException", key: str = SESSION) -> Told:
    told = Told()
    told.document()
    told.call(1_000.0, access_key=key)
    for at in times:
        told.call(at, status=400, fault="customer", code=code, access_key=key)
    return told


def with_pair(*times: float) -> Told:
    """A document gets another key pair at 1,000 s, and calls are signed with the old one."""
    told = Told()
    for at, key in ((0.0, "AKIAOLD"), (1_000.0, "AKIANEW")):
        auth = {"mode": "ACCESS_KEY", "accessKeyId": key, "secretAccessKey": "sealed"}
        told.document(at, auth=auth)
    for at in times:
        told.call(at, access_key="AKIAOLD")
    return told


def test_a_session_that_is_refused_again_and_again_is_old() -> None:
    found = list(find_old_credentials(refused(1_020.0, 1_050.0, 1_110.0).story))
    assert [one.at for one in found] == [1_110.0]


def test_refusals_that_were_in_flight_together_are_one() -> None:
    assert not list(find_old_credentials(refused(1_020.0, 1_020.5, 1_021.0, 1_050.0).story))


def test_a_session_that_has_just_replaced_another_may_be_refused() -> None:
    assert not list(find_old_credentials(refused(1_001.0, 1_020.0, 1_050.0).story))


def test_a_bus_that_is_missing_does_not_ask_for_a_new_session() -> None:
    missing = refused(1_020.0, 1_050.0, 1_110.0, code="ResourceNotFoundException")
    assert not list(find_old_credentials(missing.story))


def test_a_key_pair_of_an_older_document_is_old() -> None:
    found = list(find_old_credentials(with_pair(900.0, 1_010.0, 1_040.0).story))
    assert [one.at for one in found] == [1_040.0]
    assert not list(find_old_credentials(with_pair(900.0, 1_010.0).story))


def test_a_sealed_secret_may_wait_for_its_key() -> None:
    told = with_pair(1_040.0)
    told.call(1_001.0, api="Decrypt", target="", status=400)
    assert not list(find_old_credentials(told.story))
