"""Control of the bus from another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import (
    BUS,
    KEY,
    ROLE,
    SECRET,
    client,
    control,
    entry,
    refusal,
)

if TYPE_CHECKING:
    pass


RULE: dict[str, Any] = {
    "bus": BUS,
    "name": "second",
    "pattern": {"detail-type": ["second"]},
}


async def test_another_process_controls_the_bus() -> None:
    async with FaultBus.serve() as bus:
        assert await control(bus, "POST", "buses", {"arn": BUS}) == (200, {})
        assert await control(bus, "POST", "keys", {"accessKey": KEY, "secret": SECRET, "buses": [BUS]}) == (200, {})
        role = {"roleArn": ROLE, "externalId": "ext", "buses": [BUS], "maxSessionSecs": 7200}
        assert await control(bus, "POST", "roles", role) == (200, {})
        assert await control(bus, "POST", "rules", RULE) == (200, {})
        plan = {
            "rules": [
                {
                    "effect": {"kind": "callError", "status": 500, "code": "Broken"},
                    "when": {"kind": "times", "times": 1},
                }
            ]
        }
        status, in_force = await control(bus, "PUT", "plan", plan)
        assert (status, in_force) == await control(bus, "GET", "plan")
        assert in_force["rules"][0]["when"] == {"kind": "times", "times": 1}
        async with client("events", bus) as events, client("sts", bus) as sts:
            assert (await refusal(events.put_events(Entries=[entry()])))[1] == "Broken"
            await events.put_events(Entries=[entry(), entry(DetailType="second")])
            ask = {"RoleArn": ROLE, "RoleSessionName": "ab", "ExternalId": "ext", "DurationSeconds": 7200}
            await sts.assume_role(**ask)
        _, inbox = await control(bus, "GET", "inbox?limit=9&rule=second")
        assert [(one["bus"], one["rules"], one["event"]["detail-type"]) for one in inbox["events"]] == [
            (BUS, ["second"], "second")
        ]
        _, arrivals = await control(bus, "GET", "arrivals?offset=1&limit=1")
        assert (arrivals["offset"], arrivals["total"]) == (1, 2)
        assert [(one["detailType"], one["busArn"]) for one in arrivals["arrivals"]] == [("second", BUS)]
        _, calls = await control(bus, "GET", "calls")
        assert [(one["status"], one["fault"]) for one in calls["calls"]] == [(500, "callError"), (200, None)]
        assert (await control(bus, "GET", "assumed"))[1]["assumed"][0]["sessionName"] == "ab"
        _, counts = await control(bus, "GET", "counts")
        assert (counts["arrivals"], counts["byBus"]) == (2, {BUS: 2})
        assert await control(bus, "POST", "clear") == (200, {})
        assert (await control(bus, "GET", "counts"))[1]["arrivals"] == 0


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "said"),
    [
        ("PUT", "plan", {"rules": [{"effect": {"kind": "latency"}}]}, 400, "rules.0.effect.latency.secs: "),
        ("PUT", "plan", b"{", 400, "body: not JSON"),
        ("POST", "buses", {"arn": "pushrail-events"}, 400, "arn: "),
        ("POST", "buses", {"name": "x"}, 400, "arn: "),
        ("POST", "buses", [], 400, "body: "),
        ("POST", "keys", {"accessKey": "A", "secret": 7}, 400, "secret: "),
        ("POST", "roles", {"roleArn": "no"}, 400, "roleArn: "),
        ("POST", "roles", {"roleArn": ROLE, "extra": 1}, 400, "extra: "),
        (
            "POST",
            "roles",
            {"roleArn": "no", "trustPolicy": {}, "permissionsPolicies": []},
            400,
            "trustPolicy.Statement: ",
        ),
        ("POST", "rules", RULE | {"bus": "no"}, 400, "bus: 'no' is not the ARN"),
        ("POST", "rules", RULE | {"pattern": {"source": "acme"}}, 400, "pattern.source: "),
        ("GET", "arrivals?offset=-1", None, 400, "offset: "),
        ("GET", "calls?limit=many", None, 400, "limit: "),
        ("POST", "counts", None, 405, "no POST /_bus/counts"),
        ("GET", "nothing", None, 404, "no GET /_bus/nothing"),
    ],
)
async def test_bad_control_input_names_the_field(method: str, path: str, document: Any, status: int, said: str) -> None:
    async with FaultBus.serve() as bus:
        found, answer = await control(bus, method, path, document)
        assert found == status
        assert answer["error"].startswith(said)
