"""``access``: ACLs and IAM policies from the settings and documents, without a broker and without AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from pushrail_stream.cli.access import _PROGRAMS
from pushrail_stream.kafka.access import PROGRAMS, Program
from tests.support.builders import partner_bus_arn
from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, customer, write

pytestmark = pytest.mark.usefixtures("one_destination")


def test_the_option_knows_every_program(shell: Shell) -> None:
    assert _PROGRAMS == tuple(PROGRAMS) == get_args(Program)
    assert all(f"  {name} " in shell("access", "kafka", "--help")[1] for name in PROGRAMS)


def test_the_acls_of_a_program_are_listed(shell: Shell) -> None:
    code, out, _ = shell("access", "kafka", "--program", "requests", "--program", "ingest")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["program", "resource", "name", "pattern", "operations"],
        ["ingest", "topic", "pushrail.events", "literal", "Write,", "DescribeConfigs"],
        ["requests", "topic", "pushrail.control", "literal", "Write"],
    ]
    _, out, _ = shell("access", "kafka", "--program", "requests", "--json")
    assert json.loads(out) == {
        "program": "requests", "resource": "topic", "setting": "topics.control", "name": "pushrail.control",
        "pattern": "literal", "operations": ["Write"], "command": None,
    }  # fmt: skip


def test_a_principal_gets_commands_to_run(shell: Shell) -> None:
    _, out, _ = shell("access", "kafka", "--principal", "User:a")
    lines = out.splitlines()
    assert all(line.startswith("kafka-acls.sh --bootstrap-server localhost:9092 --add") for line in lines)
    assert len(set(lines)) == len(lines)
    _, out, _ = shell("access", "kafka", "--program", "requests", "--principal", "User:a", "--json")
    assert json.loads(out)["command"].endswith("--operation Write --topic pushrail.control")
    code, _, err = shell("access", "kafka", "--principal", "a")
    assert (code, err.splitlines()[0]) == (
        2,
        "error: --principal: must be a type and a name such as User:pushrail-worker",
    )


def test_our_own_policy_is_printed(shell: Shell) -> None:
    code, out, err = shell("access", "aws")
    assert code == 0
    [statement] = json.loads(out)["Statement"]
    assert statement["Resource"] == ["arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"]
    assert err.startswith("print it again for each new customer")
    arn = "arn:aws:kms:us-east-1:210987654321:key/a"
    Path("config/pushrail.yaml").write_text(f"secrets: {{keyring: 'aws-kms:{arn}'}}")
    _, out, _ = shell("access", "aws", "--program", "sealing")
    assert json.loads(out)["Statement"][0]["Resource"] == [arn]


def test_a_customers_policies_are_printed(shell: Shell) -> None:
    words = ("access", "destination", "dst_acme_8K2zRq", "--our-account", "210987654321")
    code, out, _ = shell(*words)
    assert code == 0
    assert out.startswith("trust:\n{")
    assert '"sts:ExternalId": "acme-ext-7Pq2"' in out
    told = json.loads(shell(*words, "--json")[1])
    assert told["permissions"]["Statement"][0]["Resource"].endswith(":event-bus/pushrail-events")
    sealed = {**ACCESS_KEY, "secretAccessKey": "env:ACME_SECRET"}
    write(Path("config/destinations"), key=customer("key", auth=sealed))
    told = json.loads(shell("access", "destination", "dst_key", "--json")[1])
    assert (told["trust"], len(told["permissions"]["Statement"])) == (None, 1)
    assert shell("access", "destination", "dst_none", "--our-account", "210987654321")[0] == 1
    assert shell(*words[:-1], "42")[0] == 2


def test_a_partner_event_source_is_refused_until_it_is_enabled(shell: Shell) -> None:
    arn = partner_bus_arn("partner")
    one = customer("partner", type="EVENTBRIDGE_PARTNER", busArn=arn, auth=..., sourceNamespace=...)
    write(Path("config/destinations"), partner=one)
    code, out, err = shell("destinations", "validate")
    assert code == 2
    assert "type: EVENTBRIDGE_PARTNER is not enabled" in out + err
    Path("config/pushrail.yaml").write_text("eventbridge: {partner_namespace: aws.partner/acme.example}")
    assert shell("destinations", "validate")[0] == 0
    code, out, err = shell("access", "destination", "dst_partner")
    assert (code, out) == (0, "")
    assert "the customer grants nothing" in err
    told = json.loads(shell("access", "destination", "dst_partner", "--json")[1])
    assert told == {"trust": None, "permissions": None}
    ids = {mode: shell("destinations", "list", "--mode", mode, "--json")[1] for mode in ("ASSUME_ROLE", "ACCESS_KEY")}
    assert "dst_acme_8K2zRq" in ids["ASSUME_ROLE"]
    assert "dst_partner" not in "".join(ids.values())
    assert "dst_partner" in shell("destinations", "list", "--type", "EVENTBRIDGE_PARTNER", "--json")[1]
