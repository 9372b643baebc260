"""What watches the product: alert rules and their runbook, the dashboard, and a real Prometheus at work."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pushrail_stream.sandbox.bus import FaultBus
from tests.e2e.world import destination, event, make_topics, open_bus, produce, running, settings_for
from tests.tools import free_port, needed_tool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
DEBIAN = "apt-get install prometheus"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[str]:
    """The dashboard's, with Grafana's variables as a browser would fill them in."""
    texts = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [text.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*") for text in texts]


def documented() -> set[str]:
    """Series by name, as the README's tables have them (which a scrape is held against)."""
    names = set(re.findall(r"^\| `(pushrail_\w+)` \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")} | recorded


def promtool(*words: str, folder: Path) -> str:
    tool = needed_tool("promtool", DEBIAN)
    done = subprocess.run([tool, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_rules_and_every_alert_fires_and_is_quiet_as_it_should() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES.name, folder=RULES.parent)
    promtool("test", "rules", "rules.test.yaml", folder=RULES.parent)
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load((RULES.parent / "rules.test.yaml").read_text())["tests"]:
        for case in test["alert_rule_test"]:
            tried.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert tried == {name: {True, False} for name in alerts()}


def test_every_alert_says_what_it_means_and_has_a_section_of_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{name.lower()}"
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(".")


def test_rules_and_dashboard_ask_for_series_that_exist() -> None:
    asked = [str(rule["expr"]) for rule in rules()] + queries()
    known = documented()
    for text in asked:
        names = set(re.findall(r"\bpushrail[_:][\w:]+", re.sub(r'"[^"]*"', '""', text)))
        assert names <= known, text
        assert names or "up{" in text


def test_every_documented_series_of_a_worker_is_on_the_dashboard_but_those_for_alerts() -> None:
    shown = set(re.findall(r"\bpushrail_\w+", " ".join(queries())))
    names = set(re.findall(r"^\| `(pushrail_\w+)` \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    missing = {name for name in names if not any(series.startswith(name) for series in shown)}
    assert missing <= {
        "pushrail_own_fault_last_timestamp_seconds", "pushrail_flooded", "pushrail_kafka_brokers_up",
        "pushrail_ingest_body_bytes_total", "pushrail_ingest_api_keys", "pushrail_ingest_keys_file_bad",
    }  # fmt: skip


def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    recorded = [{"record": f"q:{number}", "expr": text} for number, text in enumerate(queries())]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", "queries.yaml", folder=tmp_path)


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
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
    assert len({panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]}) == len(panels()) + 7


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


@pytest.mark.kafka
async def test_a_real_prometheus_scrapes_workers_and_the_rules_and_queries_work_on_it(
    real_kafka: str, tmp_path: Path
) -> None:
    binary = needed_tool("prometheus", DEBIAN)
    port = free_port()
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, metrics={"max_destinations": 10})
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [destination(0)]) as one, running(settings, [destination(0)]) as two:
            targets = [f"127.0.0.1:{worker.worker.http_port}" for worker in (one, two)]
            config = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [{"job_name": "pushrail-worker", "static_configs": [{"targets": targets}]}],
            }
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
            process = await asyncio.create_subprocess_exec(
                binary, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with aiohttp.ClientSession() as session, asyncio.timeout(90):
                    prometheus = Prometheus(port, session)
                    await produce(settings, [("acct_0", event(0, n)) for n in range(50)])
                    await bus.wait_for_arrivals(50)
                    while True:
                        try:
                            delivered = await prometheus.value('sum(pushrail_deliveries_total{state="delivered"})')
                            scraped = await prometheus.value('count(up{job="pushrail-worker"} == 1)')
                        except aiohttp.ClientConnectionError:
                            delivered = scraped = None  # it does not listen yet
                        if (delivered, scraped) == (50, 2):
                            break
                        await asyncio.sleep(0.5)
                    await asyncio.sleep(3)  # a few more scrapes: rates need two
                    loaded = [r for group in (await prometheus.ask("rules"))["groups"] for r in group["rules"]]
                    assert {rule["name"] for rule in loaded} == {r.get("alert") or r["record"] for r in rules()}
                    assert {rule["health"] for rule in loaded} == {"ok"}, [r.get("lastError") for r in loaded]
                    assert not [
                        alert for alert in (await prometheus.ask("alerts"))["alerts"] if alert["state"] == "firing"
                    ]
                    for query in queries():
                        found = (await prometheus.ask("query", query=query))["result"]
                        assert found or "ingest" in query or "outcome!=" in query or "buses" in query, query
            finally:
                process.terminate()
                await process.wait()
