"""The commands `config show`, `init` and `schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.builders import SECRET
from tests.support.commands import Shell

pytestmark = pytest.mark.usefixtures("one_destination")


def test_config_show_names_origins_in_yaml(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config/pushrail.yaml").write_text("vendor: acme\nkafka: {group_id: ours}\n", encoding="utf-8")
    monkeypatch.setenv("PUSHRAIL_DELIVERY__FLUSH_MS", "50")
    code, out, _ = shell("config", "show")
    assert code == 0
    shown = yaml.safe_load(out)
    assert (shown["vendor"], shown["kafka"]["group_id"], shown["delivery"]["flush_ms"]) == ("acme", "ours", 50)
    origins = {line.split(":")[0].strip(): line.partition("  # ")[2] for line in out.splitlines()}
    assert origins["vendor"] == "config/pushrail.yaml"
    assert origins["flush_ms"] == "PUSHRAIL_DELIVERY__FLUSH_MS"
    assert origins["max_entries"] == "default"
    assert origins["kafka"] == ""


def test_config_show_reads_back_as_settings(shell: Shell) -> None:
    Path("config/pushrail.yaml").write_text("vendor: acme\nkafka: {client: {debug: all}}\n", encoding="utf-8")
    _, out, _ = shell("config", "show")
    Path("again.yaml").write_text(out, encoding="utf-8")
    assert shell("config", "show", "--json", "--config", "again.yaml") == shell("config", "show", "--json")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_config_show_masks_secrets(options: list[str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_KAFKA__CLIENT", json.dumps({"sasl.password": SECRET, "ssl.key.pem": SECRET}))
    code, out, _ = shell("config", "show", *options)
    assert code == 0
    assert yaml.safe_load(out)["kafka"]["client"] == {"sasl.password": "***", "ssl.key.pem": "***"}


def test_config_init_leads_to_config_show(shell: Shell) -> None:
    code, out, err = shell("config", "init")
    assert (code, out) == (0, "written: config/pushrail.yaml\n")
    assert err.startswith("next: set kafka.bootstrap_servers there, then: pushrail-stream topics create --config ")
    assert shell("config", "show")[0] == 0
    assert shell("config", "init") == (
        2, "", "error: config/pushrail.yaml: is there already; --force writes a new one in its place\n",
    )  # fmt: skip
    assert json.loads(shell("config", "init", "--force", "--json")[1]) == {"written": "config/pushrail.yaml"}
    assert "--config 'a b.yaml' --dry-run" in shell("config", "init", "a b.yaml")[2], "to paste into a shell"


@pytest.mark.parametrize("command", [("config", "schema"), ("destinations", "schema")])
def test_schemas_are_printed_for_people_and_programs(command: tuple[str, str], shell: Shell) -> None:
    code, pretty, _ = shell(*command)
    assert code == 0
    lines = shell(*command, "--json")[1].splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(pretty)]
    assert json.loads(pretty)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
