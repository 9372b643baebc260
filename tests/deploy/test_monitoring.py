"""Monitoring: alert rules and their runbook, the dashboard, and a real Prometheus at work."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.deploy.metrics_page import PAGE, with_tables
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.ingest_process import ingesting, settings_with_door
from tests.support.patience import PATIENCE_SECS
from tests.support.ports import free_port
from tests.support.tools import needed_tool
from tests.support.workers import make_topics, open_bus, running

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
DEBIAN = "apt-get install prometheus"
SCRAPED = {"job", "instance"}
"""The labels that Prometheus adds itself."""


@functools.cache
def rule_file() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(RULES.read_text())
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in rule_file()["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[str]:
    """The dashboard's, with Grafana's variables as a browser would fill them in."""
    texts = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [text.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*") for text in texts]


def documented() -> dict[str, set[str]]:
    """Series by name and their labels, as METRICS.md has them (which scrapes are held against)."""
    rows = re.findall(r"^\| `(pushrail_\w+)` \|([^|]*)\|", PAGE.read_text(), flags=re.MULTILINE)
    plain = {name: set(re.findall(r"`(\w+)`", labels)) | SCRAPED for name, labels in rows}
    plain |= {name: SCRAPED | {"version"} for name in re.findall(r"`((?:process|python)_\w+)`", PAGE.read_text())}
    parts = {f"{name}_{part}": labels for name, labels in plain.items() for part in ("sum", "count")}
    buckets = {f"{name}_bucket": labels | {"le"} for name, labels in plain.items()}
    recorded = {rule["record"]: grouped(rule["expr"]) for rule in rules() if "record" in rule}
    return plain | parts | buckets | recorded


def grouped(query: str) -> set[str]:
    """The labels that a query groups by or matches on."""
    return {label for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in labels.split(", ")}


def selected(query: str) -> list[tuple[str, set[str]]]:
    """Each selector's series, and the labels it asks about."""
    found = re.findall(r'\b((?:pushrail[_:]|process_|python_)[\w:]+)(?:\{((?:[^"}]|"[^"]*")*)\})?', query)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inner))) for name, inner in found]


def promtool(*words: str, folder: Path) -> str:
    tool = needed_tool("promtool", DEBIAN)
    done = subprocess.run([tool, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_metrics_page_has_every_metric() -> None:
    assert PAGE.read_text() == with_tables(PAGE.read_text()), "run: make metrics"


def test_promtool_accepts_rules_and_their_tests() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES.name, folder=RULES.parent)
    promtool("test", "rules", "rules.test.yaml", folder=RULES.parent)
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load((RULES.parent / "rules.test.yaml").read_text())["tests"]:
        for case in test["alert_rule_test"]:
            tried.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert tried == {name: {True, False} for name in alerts()}


def test_every_alert_has_a_runbook_section() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(".")


def test_queries_use_existing_series_and_labels() -> None:
    asked = [str(rule["expr"]) for rule in rules()] + queries()
    known = documented()
    for text in asked:
        selectors = selected(text)
        assert selectors or "up{" in text or text.startswith("vector(")
        for name, labels in selectors:
            assert name in known, text
            assert labels <= known[name], text
        assert grouped(text) <= set().union(*(known[name] for name, _ in selectors)), text


def test_legends_and_summaries_use_known_labels() -> None:
    for panel in panels():
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")))
            assert named <= grouped(target["expr"]), panel["title"]
    for name, alert in alerts().items():
        named = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        assert named <= grouped(alert["expr"]) or "up{" in alert["expr"], name


def test_every_worker_series_has_a_panel_or_alert() -> None:
    shown = set(re.findall(r"\bpushrail_\w+", " ".join(queries())))
    names = set(re.findall(r"^\| `(pushrail_\w+)` \|", PAGE.read_text(), flags=re.MULTILINE))
    missing = {name for name in names if not any(series.startswith(name) for series in shown)}
    assert missing <= {
        "pushrail_own_fault_last_timestamp_seconds", "pushrail_flooded", "pushrail_kafka_brokers_up",
        "pushrail_ingest_body_bytes_total", "pushrail_ingest_api_keys", "pushrail_ingest_keys_file_bad",
            "pushrail_repeated_entries_total",
    }  # fmt: skip


def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    recorded = [{"record": f"q:{number}", "expr": text} for number, text in enumerate(queries())]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", "queries.yaml", folder=tmp_path)


def test_panels_have_room_and_a_description() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["description"].endswith(".")
    assert len({panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]}) == len(panels()) + 10


class Prometheus:
    """A real one that scrapes every second."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._session = session

    async def ask(self, what: str, **parameters: str) -> Any:
        async with self._session.get(f"{self._url}/{what}", params=parameters) as reply:
            answer = await reply.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def value(self, query: str) -> float | None:
        found = (await self.ask("query", query=query))["result"]
        return float(found[0]["value"][1]) if found else None

    async def until(self, query: str, holds: Callable[[float | None], bool]) -> None:
        """Wait until the first value of a query (None: it has none) is as wanted."""
        while not holds(await self.value(query)):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.5)


@asynccontextmanager
async def prometheus(home: Path, jobs: Mapping[str, Sequence[int]]) -> AsyncIterator[Prometheus]:
    """One that scrapes these ports by job, with the alert rules."""
    binary, port = needed_tool("prometheus", DEBIAN), free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}" for target in targets]}]}
            for job, targets in jobs.items()
        ],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        binary, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            found = Prometheus(port, session)
            async with asyncio.timeout(PATIENCE_SECS):
                while True:
                    with contextlib.suppress(
                        aiohttp.ClientError
                    ):  # it first refuses, and then answers 503 in plain text
                        await found.ask("status/config")
                        break
                    await asyncio.sleep(0.2)
            yield found
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.kafka
async def test_rules_and_queries_work_on_prometheus(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_with_door(real_kafka, bus.url, tmp_path)
        settings = settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"max_destinations": 10})})
        make_topics(settings)
        open_bus(bus, [0])
        bus.set_plan([Rule(CallError(503, "ServiceUnavailable", "busy"), Match(operation="PutEvents"), when=Times(2))])
        here = [with_access_key(0)]
        async with (
            running(settings, here) as one,
            running(settings, here) as two,
            ingesting(Desk(tmp_path, settings)) as door,
        ):
            workers = [worker.worker.http_port for worker in (one, two)]
            jobs = {"pushrail-worker": workers, "pushrail-ingest": [door.listening["ops_port"]]}
            async with prometheus(tmp_path, jobs) as watching, asyncio.timeout(PATIENCE_SECS):
                await watching.until("count(up == 1)", lambda scraped: scraped == 3)
                for number in range(50):
                    assert (await door.post(event(0, number)))[0] == 202
                await watching.until('sum(pushrail_deliveries_total{state="delivered"})', lambda count: count == 50)
                loaded = [rule for group in (await watching.ask("rules"))["groups"] for rule in group["rules"]]
                assert {rule["name"] for rule in loaded} == {rule.get("alert") or rule["record"] for rule in rules()}
                assert {rule["health"] for rule in loaded} == {"ok"}, [r.get("lastError") for r in loaded]
                for query in queries():
                    await watching.until(query, lambda value: value is not None)
                alarms = (await watching.ask("alerts"))["alerts"]
                assert not [alarm for alarm in alarms if alarm["state"] == "firing"]
