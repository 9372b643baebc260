"""Each alert is quiet just below its bound and fires just above it, and every clause of its rule matters."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from pushrail_stream.core.retry import DeadReason, fault_of
from tests.deploy.test_monitoring import DEBIAN, alerts, rule_file
from tests.support.tools import needed_tool

DELIVERED = 'pushrail_deliveries_total{state="delivered"}'
RETRY_TOPIC = 'pushrail_retry_delay_seconds{topic="retry"}'
COMMITTED = 'pushrail_committed_offset_age_seconds{topic="events"}'
TURNED = 'pushrail_consumer_poll_age_seconds{client="events"}'
UNREAD = 'pushrail_partition_unread_seconds{topic="events"}'
LAG, UNDELIVERED = (
    'pushrail_consumer_lag_records{topic="events"}',
    'pushrail_oldest_undelivered_age_seconds{topic="events"}',
)
SUSPENDED, GONE = "pushrail_destinations_suspended", "pushrail_buses_missing"
BACKLOG = 'pushrail_backlog_oldest_age_seconds{destination="%s"}'
BEGUN, OPEN, TIMED = (
    "pushrail_deliveries_begun_total", "pushrail_deliveries_in_flight", "pushrail_delivery_latency_seconds_count",
)  # fmt: skip
LATE_BY_US, LATE_BY_THEM = (f'pushrail_late_deliveries_total{{cause="{cause}"}}' for cause in ("ours", "destination"))
IN_TIME = 'pushrail_delivery_latency_seconds_bucket{trigger="live", le="30.0"}'
OK, FAILED = 'pushrail_ingest_requests_total{status="202"}', 'pushrail_ingest_requests_total{status="503"}'


class Case(NamedTuple):
    """The series of every minute, and the minute from which the alert fires; None: never."""

    series: dict[str, str]
    fires: int | None


def letters(reason: str, a_minute: float) -> dict[str, str]:
    """Beside 600 deliveries a minute."""
    return {DELIVERED: "0+600x60", f'pushrail_dead_letters_total{{reason="{reason}"}}': f"0+{a_minute}x60"}


def accounts(begun: int, open_: int, delivered: int, timed: int) -> dict[str, str]:
    counts = {BEGUN: begun, OPEN: open_, DELIVERED: delivered, TIMED: timed}
    return {name: f"{count}x60" for name, count in counts.items()}


def answered(within_1: float, within_2: float) -> dict[str, str]:
    """Of a hundred requests a minute, the numbers that took at most one second and two."""
    buckets = {"1": within_1, "2": within_2, "+Inf": 100.0}
    return {f'pushrail_ingest_request_seconds_bucket{{le="{le}"}}': f"0+{n}x60" for le, n in buckets.items()}


def steadily(series: str, a_minute: float) -> dict[str, str]:
    return {series: f"0+{a_minute}x60"}


def burning(*phases: tuple[int, float]) -> dict[str, str]:
    """Of 1,000 deliveries a minute so many are late that the error budget burns at these rates for these minutes."""
    found = {LATE_BY_US: "0", IN_TIME: "0", LATE_BY_THEM: "0+9000x60"}
    counts = {LATE_BY_US: 0.0, IN_TIME: 0.0}
    for minutes, rate in phases:
        for name, each in ((LATE_BY_US, 10 * rate), (IN_TIME, 1_000 - 10 * rate)):
            found[name] += f" {counts[name] + each}+{each}x{minutes - 1}"
            counts[name] += minutes * each
    return found


def burn_cases(bound: float, fires: int) -> list[Case]:
    """The long window keeps short peaks out, and the short one ends the alert."""
    return [
        Case(burning((60, 0.97 * bound)), None),
        Case(burning((60, 1.04 * bound)), fires),
        Case(burning((10, 4 * bound), (50, 0.95 * bound)), None),
        Case(burning((12, 0.825 * bound), (48, 1.067 * bound)), None),
    ]


HASTE = {"PushrailLateDeliveries6h": 10, "PushrailLateDeliveries1d": 30, "PushrailLateDeliveries3d": 60}
"""Alerts with long windows, and the number by which the windows are divided: promtool takes minutes for days."""


def hastened(rules: dict[str, Any], by: int) -> dict[str, Any]:
    """The rules with shorter windows."""
    secs = {"m": 60, "h": 3_600, "d": 86_400}
    texts = json.dumps(rules)
    return json.loads(re.sub(r"\[(\d+)([mhd])\]", lambda found: f"[{int(found[1]) * secs[found[2]] // by}s]", texts))  # type: ignore[no-any-return]


CUSTOMERS = [reason for reason in get_args(DeadReason) if fault_of(reason) == "customer"]
PRODUCERS = [reason for reason in get_args(DeadReason) if fault_of(reason) == "producer"]
REFRESHES, OWN = 'pushrail_credential_refreshes_total{outcome="%s"}', 'pushrail_failures_total{of="%s"}'
CASES: dict[str, list[Case]] = {
    "PushrailUndeliveredTooOld": [
        Case({UNDELIVERED: "59x60"}, None),
        Case({UNDELIVERED: "62x60"}, 2),
        Case({UNDELIVERED.replace("events", "retry"): "62x60", RETRY_TOPIC: "30x60"}, None),
    ],
    "PushrailLateDeliveries1h": burn_cases(14.4, fires=3),
    "PushrailLateDeliveries6h": burn_cases(6, fires=3),
    "PushrailLateDeliveries1d": burn_cases(3, fires=11),
    "PushrailLateDeliveries3d": burn_cases(1, fires=11),
    "PushrailLagGrowing": [
        Case({LAG: "9600+1x60"}, None),
        Case({LAG: "10100+0.05x60"}, 11),
        Case({LAG: "20000x60"}, None),
        Case({LAG.replace("events", "retry"): "20000+1x60", RETRY_TOPIC: "30x60"}, None),
    ],
    "PushrailWorkerStuck": [
        Case({COMMITTED: "118x60", TURNED: "118x60"}, None),
        Case({COMMITTED: "123x60", TURNED: "0x60"}, 1),
        Case({COMMITTED: "0x60", TURNED: "123x60"}, 1),
        Case({COMMITTED.replace("events", "retry"): "123x60", RETRY_TOPIC: "30x60"}, None),
    ],
    "PushrailPartitionUnread": [
        Case({UNREAD: "178x60"}, None),
        Case({UNREAD: "183x60"}, 2),
    ],
    "PushrailWorkerDown": [
        Case({'up{job="pushrail-worker"}': "1x60"}, None),
        Case({'up{job="pushrail-ingest"}': "0x60"}, 2),
        Case({'up{job="another"}': "0x60"}, None),
    ],
    "PushrailWorkersUnseen": [Case({BEGUN: "0x60"}, None), Case({'up{job="another"}': "1x60"}, 5)],
    "PushrailFlooded": [Case({"pushrail_flooded": "0x60"}, None), Case({"pushrail_flooded": "1x60"}, 0)],
    "PushrailAccountingBroken": [
        Case(accounts(begun=11, open_=1, delivered=10, timed=10), None),
        Case(accounts(begun=10, open_=0, delivered=10, timed=10), None),
        Case(accounts(begun=9, open_=-1, delivered=10, timed=10), 1),
        Case(accounts(begun=12, open_=1, delivered=10, timed=10), 1),
        Case(accounts(begun=10, open_=1, delivered=10, timed=10), 1),
        Case(accounts(begun=11, open_=1, delivered=10, timed=9), 1),
        Case(accounts(begun=11, open_=1, delivered=10, timed=11), 1),
    ],
    "PushrailDeadLettersOfProducers": [
        *(Case(letters(reason, 5.7), None) for reason in PRODUCERS),
        *(Case(letters(reason, 6.3), 6) for reason in PRODUCERS),
        *(Case(letters(reason, 60), None) for reason in CUSTOMERS),
    ],
    "PushrailDeadLettersOfCustomers": [
        *(Case(letters(reason, 5.7), None) for reason in CUSTOMERS),
        *(Case(letters(reason, 6.3), 6) for reason in CUSTOMERS),
        *(Case(letters(reason, 60), None) for reason in PRODUCERS),
    ],
    "PushrailDestinationSuspended": [
        Case({SUSPENDED: "0x60", GONE: "0x60"}, None),
        Case({SUSPENDED: "1x60", GONE: "0x60"}, 15),
        Case({SUSPENDED: "0x60", GONE: "1x60"}, 15),
    ],
    "PushrailCredentialsFailing": [
        Case(steadily(REFRESHES % "failed", 0.48), None),
        Case(steadily(REFRESHES % "failed", 0.52) | steadily(REFRESHES % "kept", 0.001), 15),
        Case(steadily(REFRESHES % "kept", 0.52) | steadily(REFRESHES % "failed", 0.001), 15),
        Case(steadily(REFRESHES % "refreshed", 60), None),
    ],
    "PushrailOwnCredentialsFailing": [
        Case(steadily(OWN % "own_credentials", 0), None),
        Case(steadily(OWN % "own_credentials", 0.1), 2),
        Case(steadily(OWN % "kafka", 60), None),
    ],
    "PushrailDocumentsRefused": [
        Case({'pushrail_registry_documents{state="bad"}': "0x60"}, None),
        Case({'pushrail_registry_documents{state="bad"}': "1x60"}, 10),
        Case({'pushrail_registry_documents{state="good"}': "9x60"}, None),
    ],
    "PushrailAttemptsLogLossy": [
        Case(steadily("pushrail_attempts_log_lost_total", 0), None),
        Case(steadily("pushrail_attempts_log_lost_total", 0.05), 1),
    ],
    "PushrailNoticesLost": [
        Case(steadily("pushrail_notices_lost_total", 0), None),
        Case(steadily("pushrail_notices_lost_total", 0.05), 1),
    ],
    "PushrailRecordsRemovedUnread": [
        Case({OWN % "trimmed": "0x60"}, None),
        Case({OWN % "trimmed": "1x60"}, 0),
        Case({OWN % "backlog_trimmed": "1x60"}, 0),
        Case(steadily(OWN % "commit", 60), None),
    ],
    "PushrailBacklogOld": [
        Case({BACKLOG % "dst_a": "3600x60"}, None),
        Case({BACKLOG % "dst_a": "3610x60"}, 10),
        Case({BACKLOG % "_other": "3610x60"}, 10),
    ],
    "PushrailCopiesNotWritten": [
        Case(steadily(OWN % "copy", 0), None),
        Case(steadily(OWN % "copy", 0.1), 3),
        Case(steadily(OWN % "commit", 60), None),
    ],
    "PushrailIngestFailing": [
        Case({OK: "0+600x60", FAILED: "0+5.8x60"}, None),
        Case({OK: "0+600x60", FAILED: "0+6.4x60"}, 3),
        Case({OK: "0+600x60", FAILED.replace("503", "429"): "0+600x60"}, None),
    ],
    "PushrailIngestSlow": [
        Case(answered(within_1=99.2, within_2=100), None),
        Case(answered(within_1=98.95, within_2=100), 6),
    ],
    "PushrailIngestUnseen": [Case({"pushrail_ingest_api_keys": "0x60"}, None), Case({BEGUN: "0x60"}, 5)],
    "PushrailIngestKeysFileBad": [
        Case({"pushrail_ingest_keys_file_bad": "0x60"}, None),
        Case({"pushrail_ingest_keys_file_bad": "1x60"}, 2),
    ],
}  # fmt: skip


def unit_test(name: str, case: Case) -> dict[str, Any]:
    """As promtool has it: whether the alert fires just before its time, at it and much later."""
    begins = 61 if case.fires is None else case.fires
    asked = [
        {
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": "{}", "value": 1}] if minute >= begins else [],
        }
        for minute in {begins - 1, begins, 20, 30}
        if 0 <= minute <= 30
    ]
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {"interval": "1m", "input_series": series, "promql_expr_test": asked}


def holding(name: str, variants: Sequence[dict[str, Any]], folder: Path) -> list[bool]:
    """Whether under each variant of the rules the alert is quiet and fires as its cases say."""
    files = [f"cases{number}.yaml" for number in range(len(variants))]
    for file, rules in zip(files, variants, strict=True):
        (folder / f"rules-{file}").write_text(json.dumps(hastened(rules, HASTE.get(name, 1))))  # which is YAML, too
        cases = {
            "rule_files": [f"rules-{file}"],
            "evaluation_interval": "1m",
            "group_eval_order": [group["name"] for group in rules["groups"]],  # else it is left to chance
            "tests": [unit_test(name, case) for case in CASES[name]],
        }
        (folder / file).write_text(json.dumps(cases))
    tool = needed_tool("promtool", DEBIAN)
    done = subprocess.run([tool, "test", "rules", *files], cwd=folder, capture_output=True, text=True, check=False)
    results = re.findall(r"^Unit Testing: +(\S+)\n( +SUCCESS\n)?", done.stdout, flags=re.MULTILINE)
    assert [file for file, _ in results] == files, done.stdout + done.stderr
    return [success != "" for _, success in results]


def bent(expr: str) -> Iterator[str]:
    """An expression with each of its bounds a tenth lower and higher (0: one), and without each of its clauses."""
    outside = re.sub(r'"[^"]*"|\[[^\]]*\]|\d+m\b|\w*[a-z_:]\w*', lambda found: " " * len(found[0]), expr)
    for number in re.finditer(r"\d+(\.\d+)?", outside):
        value = float(number[0])
        for other in (value * 0.9 or -1, value * 1.1 or 1):
            yield f"{expr[: number.start()]}{other}{expr[number.end() :]}"
    clauses = re.split(r"\s(?:or|and)\s", expr)
    for clause in clauses if len(clauses) > 1 else []:
        yield " or ".join(other for other in clauses if other is not clause)


def changed(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A change, and the rules with it, without the other alerts, because promtool takes long for each."""
    whole = deepcopy(rule_file())
    for group in whole["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert", name) == name]

    def with_change(key: str, value: Any) -> tuple[str, dict[str, Any]]:
        copy = deepcopy(whole)
        for rule in [rule for group in copy["groups"] for rule in group["rules"] if "alert" in rule]:
            rule[key] = value
        return f"{key}: {value}", copy

    for expr in bent(str(alerts()[name]["expr"])):
        yield with_change("expr", expr)
    minutes = int(str(alerts()[name].get("for", "0m")).removesuffix("m"))
    for other in (minutes - 1, minutes + 1):
        if other >= 0:
            yield with_change("for", f"{other}m")


def test_every_alert_has_both_sides_tested() -> None:
    assert CASES.keys() == alerts().keys()
    for name, cases in CASES.items():
        assert {case.fires is None for case in cases} == {True, False}, name


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_beyond_its_bound_only(name: str, tmp_path: Path) -> None:
    changes, variants = zip(*changed(name), strict=True)
    held, *unnoticed = holding(name, [rule_file(), *variants], tmp_path)
    assert held
    assert [change for change, is_unnoticed in zip(changes, unnoticed, strict=True) if is_unnoticed] == []
