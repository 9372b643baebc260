from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.kms import KmsKey
from pushrail_stream.ports.secrets import KeyUnavailable
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.corpus import BODIES, HEADERS, STATUSES
from tests.simulation.aws.faults import STAGES, Fault
from tests.simulation.aws.one_host import OUR_ARN, OneHost
from tests.simulation.aws.policies import allow

ARN = "arn:aws:kms:eu-west-1:999999999999:key/one"
CONTEXT = {"pushrail:destination": "dst_a"}
ELSEWHERE = {"pushrail:destination": "dst_b"}


def in_a_world(script: Callable[[Cloud], None]) -> OneHost:
    """Run on a thread of the host, as the product calls KMS."""

    async def story(_: EventBridge, cloud: Cloud) -> None:
        cloud.kms.create_key(ARN)
        await asyncio.to_thread(script, cloud)

    world = OneHost()
    world.run(story)
    return world


def key() -> KmsKey:
    return KmsKey(ARN, endpoint_url="http://kms.eu-west-1.sim/")


def test_a_data_key_is_bound_to_its_place() -> None:
    def script(cloud: Cloud) -> None:
        plain, wrapped = key().new_data_key(CONTEXT)
        assert key().unwrap(wrapped, CONTEXT) == plain
        assert key().unwrap(wrapped, ELSEWHERE) is None
        assert key().unwrap(wrapped[:-1], CONTEXT) is None
        assert [call.api for call in cloud.calls] == ["GenerateDataKey", *["Decrypt"] * 3]
        assert {call.principal for call in cloud.calls} == {OUR_ARN}

    in_a_world(script)


def test_a_disabled_key_and_a_lack_of_permission_are_our_own_fault() -> None:
    def script(cloud: Cloud) -> None:
        cloud.kms.keys[ARN].enabled = False
        with pytest.raises(KeyUnavailable, match="DisabledException"):
            key().new_data_key(CONTEXT)
        cloud.kms.keys[ARN].enabled = True
        cloud.accounts.create_user(OUR_ARN, [allow("sts:*")])
        with pytest.raises(KeyUnavailable, match="AccessDeniedException"):
            key().new_data_key(CONTEXT)
        with pytest.raises(KeyUnavailable, match="AccessDeniedException"):
            KmsKey(ARN + "2", endpoint_url="http://kms.eu-west-1.sim/").new_data_key(CONTEXT)
        assert {call.blame for call in cloud.calls} == {"ours"}

    in_a_world(script)


_HARMLESS = {"late", "drip", "interim", "surplus"}
"""Kinds that a client may survive with its answer."""


@pytest.mark.parametrize("kind", [kind for kind, stage in STAGES.items() if stage != "entry"])
def test_a_fault_makes_the_key_unavailable_for_a_while(kind: str) -> None:
    def script(cloud: Cloud) -> None:
        plain, wrapped = key().new_data_key(CONTEXT)
        fault = cloud.faults.add(Fault(kind))
        if fault.applies("Decrypt", "eu-west-1", "") and kind not in _HARMLESS:
            with pytest.raises(KeyUnavailable):
                key().unwrap(wrapped, CONTEXT)
        cloud.faults.heal()
        assert key().unwrap(wrapped, CONTEXT) == plain

    in_a_world(script)


def test_garbled_answers_give_no_key() -> None:
    places = [
        *[f"{status}/plain/html" for status in dict.fromkeys(STATUSES)],
        *[f"200/{headers}/object" for headers in HEADERS],
        *[f"200/plain/{body}" for body in BODIES["Decrypt"]],
    ]

    def script(cloud: Cloud) -> None:
        _, wrapped = key().new_data_key(CONTEXT)
        for place in places:
            cloud.faults.set([Fault("garbled_before", api="Decrypt", detail=place)])
            with pytest.raises(KeyUnavailable):
                key().unwrap(wrapped, CONTEXT)

    in_a_world(script)
