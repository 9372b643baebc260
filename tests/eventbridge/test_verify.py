"""A destination is tested step by step against a bus that judges as AWS does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pushrail_stream.core.destination import Destination, Secret
from pushrail_stream.eventbridge.verify import TEST_EVENT, Step, strictly, verify
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Garbage, Match, Rule, Sequence
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.eventbridge import AccessKey, Auth
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import BUS
from tests.support.builders import destination, partner_destination, v2_bus_arn
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, KEY, ROLE, SECRET
from tests.support.recording_server import Recorder, http

OTHER_ACCOUNT = "210987654321"


class World:
    """One bus, and what trying a destination on it finds; no secret of anybody's may show."""

    def __init__(self, server: FaultBus) -> None:
        self.server = server
        self.settings = EventBridgeSettings(endpoint_url=server.url, connect_timeout_secs=5, read_timeout_secs=10)
        self.sts = StsSettings(endpoint_url=server.url)

    async def steps(self, to: Destination | Auth = ASSUME) -> list[Step]:
        target = to if isinstance(to, Destination) else destination(auth=to)
        steps = [step async for step in verify(target, self.settings, self.sts)]
        self._holds_no_secret(repr(steps))
        return steps

    async def results(self, to: Destination | Auth = ASSUME) -> dict[str, str]:
        return {step.name: step.result for step in await self.steps(to)}

    def _holds_no_secret(self, shown: str) -> None:
        keys = filter(None, (assumed.issued_key for assumed in self.server.assumed))
        issued = map(self.server.directory.credential, keys)
        known = [one for one in issued if one is not None]
        secrets = [SECRET, *(one.secret for one in known), *(one.session_token for one in known if one.session_token)]
        assert not any(secret in shown for secret in secrets)


@asynccontextmanager
async def world(base: tuple[str, str] | None, *, external_id: str | None = ASSUME.external_id) -> AsyncIterator[World]:
    async with FaultBus.serve() as server:
        server.add_bus(BUS)
        server.add_role(ROLE, external_id=external_id)
        server.add_key(KEY, SECRET)
        if base is not None:
            server.add_key(*base, account=OTHER_ACCOUNT)
        yield World(server)


def customers_calls(server: FaultBus, base: tuple[str, str] | None) -> None:
    """Check that no call to the bus has our own signature."""
    assert base is None or base[0] not in {call.access_key for call in server.calls}


# Our own identity.


async def test_a_partners_event_source_is_tested_with_our_own_credentials(base_credentials: tuple[str, str]) -> None:
    target = partner_destination()
    async with world(base_credentials) as w:
        w.server.add_bus(target.bus.arn)
        steps = await w.steps(target)
        assert [(step.name, step.result) for step in steps] == [
            ("our credentials", "ok"),
            ("bus", "ok"),
            ("test event", "ok"),
        ]
        (arrived,) = w.server.arrivals
        assert (arrived.bus_arn, arrived.source) == (target.bus.arn, target.source)
        assert (arrived.access_key, w.server.assumed) == (base_credentials[0], [])


async def test_a_source_without_a_bus_fails_and_says_its_state(base_credentials: tuple[str, str]) -> None:
    target = partner_destination()
    async with world(base_credentials) as w:
        w.server.offer_source(target.bus.arn)
        steps = await w.steps(target)
        assert [(step.name, step.result) for step in steps] == [("our credentials", "ok"), ("bus", "failed")]
        assert "does not exist (the event source is PENDING): events sent there would vanish" in steps[-1].message
        assert w.server.calls == []


async def test_our_identity_that_may_not_ask_is_told_the_statement(base_credentials: tuple[str, str]) -> None:
    target = partner_destination()
    async with world(base_credentials) as w:
        w.server.add_bus(target.bus.arn)
        w.server.add_key(*base_credentials, buses=[])
        _, bus, event = await w.steps(target)
        assert (bus.result, event.result) == ("unknown", "failed")
        assert "add this statement to the identity of ours" in bus.message
        source = f"arn:aws:events:us-east-1::event-source/{target.source}"
        assert f'"Action": "events:ListPartnerEventSourceAccounts", "Resource": "{source}"' in bus.message


async def test_a_partner_without_credentials_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with world(None) as w:
        assert await w.results(partner_destination()) == {"our credentials": "failed"}


# A role.


async def test_a_good_role_passes_every_step(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        steps = await w.steps()
        assert [(step.name, step.result) for step in steps] == [
            ("our credentials", "ok"),
            ("AssumeRole", "ok"),
            ("wrong external ID", "ok"),
            ("no external ID", "ok"),
            ("bus", "ok"),
            ("test event", "ok"),
        ]
        (arrived,) = w.server.arrivals
        sent = json.loads(arrived.detail)
        assert (arrived.detail_type, arrived.event_id) == (TEST_EVENT, steps[-1].event_id)
        assert sent["payload"]["nonce"] in steps[-1].message
        assert steps[-1].request_id == w.server.calls[0].request_id
        assert arrived.access_key == w.server.assumed[0].issued_key
        right, shaped_alike, all_but_right, none = (one.external_id for one in w.server.assumed)
        assert (right, none) == (ASSUME.external_id, None)
        assert shaped_alike is not None
        assert all_but_right is not None
        assert shaped_alike.startswith("acme-"), "as those of the vendor's other customers"
        assert all_but_right[:-1] == ASSUME.external_id[:-1]
        assert len({right, shaped_alike, all_but_right}) == 3
        customers_calls(w.server, base_credentials)


async def test_an_open_trust_policy_is_warned_of(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, external_id=None) as w:
        steps = {step.name: step for step in await w.steps()}
        for name in ("wrong external ID", "no external ID"):
            assert steps[name].result == "warning"
            assert '"Condition": {"StringEquals": {"sts:ExternalId": "acme-ext-7Pq2"}}' in steps[name].message
        assert steps["test event"].result == "ok"


@pytest.mark.parametrize(
    ("denied", "name"),
    [
        ([Sequence(2, 3)], "no external ID"),
        ([Sequence(3, 3)], "wrong external ID"),  # a pattern takes what looks like an external ID of this vendor
        ([Sequence(2, 2), Sequence(3, 3)], "wrong external ID"),  # or what begins as the right one does
    ],
)
async def test_each_warning_is_independent(
    denied: list[Sequence], name: str, base_credentials: tuple[str, str]
) -> None:
    async with world(base_credentials, external_id=None) as w:
        refusal, ask = CallError(403, "AccessDenied"), Match(operation="AssumeRole")
        w.server.set_plan([Rule(refusal, ask, when) for when in denied])
        results = await w.results()
        assert [step for step, result in results.items() if result == "warning"] == [name]


async def test_a_refusal_for_another_reason_is_unknown(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, external_id=None) as w:
        w.server.set_plan([Rule(CallError(400, "Throttling"), Match(operation="AssumeRole"), Sequence(2, 4))])
        results = await w.results()
        assert (results["wrong external ID"], results["no external ID"]) == ("unknown", "unknown")
        assert results["test event"] == "ok"


async def test_strictly_the_external_id_must_be_shown_to_count(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, external_id=None) as w:
        ignored = [strictly(step) for step in await w.steps()]
        w.server.set_plan([Rule(CallError(400, "Throttling"), Match(operation="AssumeRole"), Sequence(2, 4))])
        unclear = [strictly(step) for step in await w.steps()]
        for steps in (ignored, unclear):
            failed = [step.name for step in steps if step.result == "failed"]
            assert failed == ["wrong external ID", "no external ID"]
    async with world(base_credentials) as w:
        steps = await w.steps()
        assert list(map(strictly, steps)) == steps


async def test_a_role_that_cannot_be_assumed_ends_it(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, external_id="another") as w:
        steps = await w.steps()
        assert [(step.name, step.result) for step in steps] == [("our credentials", "ok"), ("AssumeRole", "failed")]
        assert "trust policy" in steps[-1].message
        assert steps[-1].request_id
        assert w.server.calls == []
        assert w.server.counts()["describeEventBus"] == 0


V2_BUS = v2_bus_arn("acme")
ON_V2 = destination(type="EVENTBRIDGE_V2", bus=V2_BUS, auth=ASSUME)


async def test_a_bus_of_eventbridgev2_passes_every_step(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        w.server.add_bus(V2_BUS)
        steps = await w.steps(ON_V2)
        assert [(step.name, step.result) for step in steps[-2:]] == [("bus", "ok"), ("test event", "ok")]
        (arrived,) = w.server.arrivals
        assert (arrived.bus_arn, arrived.detail_type, arrived.event_id) == (V2_BUS, TEST_EVENT, steps[-1].event_id)


async def test_a_bus_of_eventbridgev2_may_be_missing_or_locked(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        steps = await w.steps(ON_V2)
        assert (steps[-1].name, steps[-1].result) == ("bus", "failed")
        assert "events sent there would be refused (EventBusNotFound)" in steps[-1].message
        w.server.add_bus(V2_BUS)
        denied = CallError(403, "AccessDeniedException", "KMS_ACCESS_DENIED: no access to the key")
        w.server.set_plan([Rule(denied, Match(operation="PutEvents"))])
        steps = await w.steps(ON_V2)
        assert (steps[-1].name, steps[-1].result) == ("test event", "failed")
        assert "must let whoever signs call kms:Decrypt" in steps[-1].message
        w.server.set_plan([Rule(EntryError("InternalException", "oops"))])
        steps = await w.steps(ON_V2)
        assert (steps[-1].result, steps[-1].message) == ("failed", "InternalException: oops")


async def test_a_missing_bus_gets_no_event(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        w.server.directory.buses.clear()
        steps = await w.steps()
        assert (steps[-1].name, steps[-1].result) == ("bus", "failed")
        assert "does not exist" in steps[-1].message
        assert w.server.calls == []


@pytest.mark.parametrize(("auth", "whom"), [(ASSUME, "role"), (GOOD_KEY, "user")])
async def test_a_denied_check_names_its_statement(auth: Auth, whom: str, base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        w.server.set_plan([Rule(CallError(400, "AccessDeniedException"), Match(operation="DescribeEventBus"))])
        steps = {step.name: step for step in await w.steps(auth)}
        assert steps["bus"].result == "unknown"
        before, _, statement = steps["bus"].message.partition(f"add this statement to the {whom}: ")
        assert before
        assert json.loads(statement) == {"Effect": "Allow", "Action": "events:DescribeEventBus", "Resource": BUS}
        assert steps["test event"].result == "ok"


async def test_a_role_without_rights_fails_last(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        w.server.set_plan([Rule(CallError(400, "AccessDeniedException"), Match(operation="PutEvents"))])
        steps = await w.steps()
        assert (steps[-1].name, steps[-1].result) == ("test event", "failed")
        assert "AccessDeniedException" in steps[-1].message
        assert steps[-1].request_id == w.server.calls[0].request_id


async def test_a_refused_entry_is_a_failed_step(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        w.server.set_plan([Rule(EntryError("InternalFailure", "not now"))])
        step = (await w.steps())[-1]
        assert (step.result, step.event_id, step.message) == ("failed", None, "InternalFailure: not now")


async def test_a_session_is_confined_like_a_workers(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        await w.steps()
        assert w.server.assumed[0].policy is not None
        assert json.loads(w.server.assumed[0].policy)["Statement"][0]["Resource"] == BUS


async def test_without_own_credentials_it_ends() -> None:
    async with world(None) as w:
        (step,) = await w.steps()
        assert (step.name, step.result) == ("our credentials", "failed")
        assert "no provider of AWS's standard chain has any" in step.message
        assert w.server.counts()["connections"] == 0


async def test_wrong_own_credentials_end_it(base_credentials: tuple[str, str]) -> None:
    async with world((base_credentials[0], "another secret")) as w:
        (step,) = await w.steps()
        assert (step.name, step.result) == ("our credentials", "failed")
        assert step.message.startswith("SignatureDoesNotMatch")
        assert w.server.assumed == []


async def test_the_test_event_has_the_destinations_format(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        await w.steps(destination(auth=ASSUME, detail_format="cloudevents"))
        (arrived,) = w.server.arrivals
        sent = json.loads(arrived.detail)
        assert (sent["specversion"], sent["type"], sent["data"].keys()) == (
            "1.0", TEST_EVENT, {"nonce", "destinationId"}
        )  # fmt: skip


# A key.


async def test_a_good_key_passes_without_ours(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        assert await w.results(GOOD_KEY) == {"credentials": "ok", "bus": "ok", "test event": "ok"}
        assert {call.access_key for call in w.server.calls} == {KEY}
        assert w.server.assumed == []


async def test_our_token_stays_off_their_key(
    base_credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ours-alone")
    async with world(base_credentials) as w:
        assert set((await w.results(GOOD_KEY)).values()) == {"ok"}


@pytest.mark.parametrize("auth", [AccessKey(KEY, None), AccessKey(KEY, Secret(""))])
async def test_a_key_without_its_secret_goes_no_further(auth: AccessKey, base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        (step,) = await w.steps(auth)
        assert (step.name, step.result) == ("credentials", "failed")
        assert "could not be read" in step.message
        assert w.server.calls == []


@pytest.mark.parametrize(
    ("auth", "of_sts", "of_the_bus"),
    [
        (AccessKey(KEY, Secret("wrong")), "SignatureDoesNotMatch", "InvalidSignatureException"),
        (AccessKey("AKIAUNKNOWN000000000", Secret(SECRET)), "InvalidClientTokenId", "UnrecognizedClientException"),
    ],
)
async def test_a_key_that_is_wrong_sends_nothing(
    auth: AccessKey, of_sts: str, of_the_bus: str, base_credentials: tuple[str, str]
) -> None:
    async with world(base_credentials) as w:
        credentials, bus = await w.steps(auth)
        assert (credentials.name, credentials.result) == ("credentials", "unknown"), "the operator's endpoint may err"
        assert of_sts in credentials.message
        assert (bus.name, bus.result) == ("bus", "failed")
        assert of_the_bus in bus.message
        assert w.server.calls == []


async def test_a_key_refused_by_sts_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(None) as w:
        # botocore looks there for the regional endpoint when no setting names one.
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", w.server.url)
        w.sts = StsSettings()
        (step,) = await w.steps(AccessKey(KEY, Secret("wrong")))
        assert (step.name, step.result) == ("credentials", "failed")
        assert "SignatureDoesNotMatch" in step.message
        assert w.server.calls == []


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidClientTokenId", "AccessDenied"])
async def test_a_custom_sts_fails_no_good_key(code: str) -> None:
    """A private endpoint of our own region may serve our own principals alone."""
    async with world(None) as w:
        w.server.set_plan([Rule(CallError(403, code), Match(operation="GetCallerIdentity"))])
        assert await w.results(GOOD_KEY) == {"credentials": "unknown", "bus": "ok", "test event": "ok"}


async def test_a_custom_sts_has_its_own_region() -> None:
    async with world(None) as w, Recorder.serve(http("403 Forbidden")) as sts:
        w.sts = StsSettings(endpoint_url=sts.url, region="eu-west-1")
        await w.steps(GOOD_KEY)
        assert "/eu-west-1/sts/aws4_request" in (sts.requests[0].header("Authorization") or "")


async def test_a_key_of_another_account_is_warned_of() -> None:
    async with world(None) as w:
        w.server.add_key(KEY, SECRET, account=OTHER_ACCOUNT, buses=[])
        steps = await w.steps(GOOD_KEY)
        assert [(step.name, step.result) for step in steps] == [
            ("credentials", "warning"),
            ("bus", "unknown"),
            ("test event", "failed"),
        ]
        assert "of another account than the bus (123456789012)" in steps[0].message


async def test_a_key_works_where_sts_is_out_of_reach() -> None:
    async with world(None) as w:
        w.sts = StsSettings(endpoint_url="http://127.0.0.1:1")
        assert await w.results(GOOD_KEY) == {"credentials": "unknown", "bus": "ok", "test event": "ok"}


async def test_a_custom_endpoint_gets_the_call(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w, Recorder.serve(http("403 Forbidden")) as bus:
        w.settings = EventBridgeSettings(endpoint_url=f"{bus.url}/{{region}}")
        await w.steps()
        assert [request.start for request in bus.requests] == ["POST /us-east-1 HTTP/1.1"]


# No answer, or the answer of another server.


@pytest.mark.parametrize("auth", [ASSUME, GOOD_KEY])
async def test_an_address_without_a_listener_is_reported(auth: Auth, base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as w:
        nowhere = "http://127.0.0.1:1"
        w.settings, w.sts = EventBridgeSettings(endpoint_url=nowhere), StsSettings(endpoint_url=nowhere)
        step = (await w.steps(auth))[-1]
        assert step.result == "failed"
        assert step.message.startswith("ConnectionFailed: ClientConnectorError: Cannot connect to host 127.0.0.1:1 ")


@pytest.mark.parametrize("body", ["empty", "html", "object"])
@pytest.mark.parametrize(
    ("operation", "name"),
    [("GetCallerIdentity", "our credentials"), ("AssumeRole", "AssumeRole"), ("PutEvents", "test event")],
)
async def test_a_foreign_answer_is_a_failure(
    operation: str, name: str, body: str, base_credentials: tuple[str, str]
) -> None:
    effect = Garbage(body)  # type: ignore[arg-type]
    async with world(base_credentials) as w:
        w.server.set_plan([Rule(effect, Match(operation=operation))])  # type: ignore[arg-type]
        step = (await w.steps())[-1]
        assert (step.name, step.result) == (name, "failed")
        assert step.message
