"""The image and the compose file, as far as they can be checked without a build."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from pushrail_stream.ingest.metrics import IngestMetrics
from pushrail_stream.observe.ops_server import serve_ops
from pushrail_stream.settings.model import HttpSettings, Settings
from pushrail_stream.settings.source import load_settings
from tests.support.patience import PATIENCE_SECS
from tests.support.ports import free_port
from tests.support.tools import needed_tool

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"


def setting_names() -> set[str]:
    """Every environment variable that is a setting."""
    names = {"PUSHRAIL_CONFIG"}
    for name, field in Settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", None)
        names |= {f"PUSHRAIL_{name}__{key}".upper() for key in keys} if keys else {f"PUSHRAIL_{name}".upper()}
    return names


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def instructions() -> list[str]:
    """Of the Dockerfile, one a line, without comments."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def test_hadolint_finds_nothing() -> None:
    tool = needed_tool("hadolint", "make setup")
    done = subprocess.run(
        [tool, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_the_image_pins_hashes_and_is_not_root() -> None:
    last = instructions()[max(n for n, line in enumerate(instructions()) if line.startswith("FROM")) :]
    user = next(line for line in last if line.startswith("USER"))
    assert re.fullmatch(r"USER 10001:10001", user), "by number, so that Kubernetes can tell that it is not root"
    installs = [line for line in instructions() if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
    assert not any(line.startswith("ADD") for line in instructions())


def test_the_build_context_has_no_more_than_needed() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [line.split()[1] for line in instructions() if line.startswith("COPY") and "--from" not in line]
    assert sorted(kept) == sorted(copied)
    assert all((ROOT / path).exists() for path in copied)


def healthcheck(**environment: str) -> int:
    line = next(line for line in instructions() if line.startswith("HEALTHCHECK"))
    python, *words = json.loads(line[line.index("CMD") + len("CMD") :])
    assert python == "python"
    return subprocess.run([sys.executable, *words], env=environment, stderr=subprocess.DEVNULL, check=False).returncode


async def test_the_healthcheck_finds_the_real_port() -> None:
    exposition = IngestMetrics().exposition
    async with serve_ops(HttpSettings(port=0), exposition=exposition, unready=lambda: ["not ready is alive"]) as port:
        where = {
            "PUSHRAIL_HTTP__PORT": str(port),
            "HTTP_PROXY": "http://127.0.0.1:1",
            "http_proxy": "http://127.0.0.1:1",
        }
        assert await asyncio.to_thread(healthcheck, **where) == 0
    assert healthcheck(**where) != 0, "nobody listens any more"
    assert healthcheck(PUSHRAIL_HTTP__PORT="") != 0


def test_image_lock_and_tests_share_one_python() -> None:
    lock = re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text())
    image = re.search(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-", DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert image is not None
    assert set(lock) == {image[1]}


def test_the_images_settings_are_neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)
    settings = load_settings(DOCKERFILE.with_name("pushrail.yaml"))
    assert settings.vendor is None, "nobody's events are taken for another vendor's"
    assert settings.registry.topic, "no directory has to be there"
    writable = next(line for line in instructions() if "install -d -o 10001" in line).split()[-1]
    assert settings.ingest.keys_file.parent == Path(writable)


def test_every_variable_is_a_setting() -> None:
    texts = [
        path.read_text() for path in (ROOT / "deploy").rglob("*") if path.suffix in {".yaml", ""} and path.is_file()
    ]
    used = {name for text in texts for name in re.findall(r"\bPUSHRAIL_[A-Z_]+[A-Z]\b", text)}
    assert len(used) > 5
    assert used - {"PUSHRAIL_SECTION__KEY"} <= setting_names()


def test_compose_has_local_ports_and_fixed_tags() -> None:
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        image = service["image"]
        assert re.search(r":[\w.-]*\d|:local$", image), f"{name}: {image}"
        assert not image.endswith(":latest")
        if image == "pushrail-stream:local":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


def test_compose_uses_the_motos_tested_version() -> None:
    lock = (ROOT / "deploy" / "requirements-dev.lock").read_text()
    version = re.search(r"^moto==(\S+)", lock, flags=re.MULTILINE)
    assert version is not None
    assert compose()["services"]["aws"]["image"] == f"motoserver/moto:{version[1]}"


def test_every_file_that_compose_mounts_exists() -> None:
    services = compose()["services"]
    assert all(name in services for service in services.values() for name in service.get("depends_on", ()))
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    paths = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(paths) > 5
    for path in paths:
        assert (COMPOSE.parent / path).exists(), path
    assert services["worker"]["stop_grace_period"] == "45s"


@contextmanager
def an_aws_of_its_own() -> Iterator[str]:
    """The address of a moto in a process of its own: one in this process would share its buses with other tests."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_SECS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_making_the_example_bus_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    with an_aws_of_its_own() as address:
        here = compose()["services"]["bus"]["environment"] | {"PUSHRAIL_EVENTBRIDGE__ENDPOINT_URL": address}
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        for _ in range(2):
            subprocess.run([sys.executable, COMPOSE.parent / "bus.py"], check=True)
        events: Any = botocore.session.get_session().create_client(
            "events", region_name="us-east-1", endpoint_url=address
        )
        example = (ROOT / "config" / "destinations" / "acme-8K2zRq.json").read_text()
        arns = [bus["Arn"] for bus in events.list_event_buses()["EventBuses"] if bus["Name"] != "default"]
        assert len(arns) == 1
        assert arns[0] in example


def test_the_images_libraries_are_enough(tmp_path: Path) -> None:
    """The build stage's steps, by hand: everything imports, and commands show their help."""
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "deploy" / "requirements.lock"
    # Our pip, which need not be installed first; and only the modules that are imported get compiled.
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-compile", "--require-hashes", "-r", lock], check=True, timeout=280)
    rooms = (
        "import importlib, pkgutil, pushrail_stream\n"
        "names = [m.name for m in pkgutil.walk_packages(pushrail_stream.__path__, 'pushrail_stream.')]\n"
        "names = [n for n in names if '.sandbox' not in n and '__main__' not in n]\n"
        "[importlib.import_module(n) for n in names]\n"
        "print(len(names))"
    )
    launcher = next(line for line in instructions() if "bin/pushrail-stream" in line).removeprefix("RUN ")
    launcher = launcher.partition("&& /opt/pushrail/bin/python -m compileall")[0].replace(
        "/opt/pushrail", str(python.parents[1])
    )
    subprocess.run(["/bin/sh", "-c", launcher], check=True)
    config = DOCKERFILE.with_name("pushrail.yaml")
    there = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PUSHRAIL_CONFIG": str(config)}
    done = subprocess.run([python, "-c", rooms], env=there, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
    for words in (["--version"], ["run", "--help"], ["ingest", "--help"], ["config", "show"]):
        command: list[str | Path] = [python.with_name("pushrail-stream"), *words]
        subprocess.run(command, env=there, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_pid_1_obeys_sigterm_from_its_start() -> None:
    """The kernel gives process 1 no default action: unheeded, the signal is gone, and SIGKILL the only end."""
    unshare = needed_tool("unshare", "Debian's util-linux")
    inside = [sys.executable, "-m", "pushrail_stream", "destinations", "put", "-"]  # waits for input that never comes
    with subprocess.Popen(
        [unshare, "--pid", "--fork", "--kill-child", *inside],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + PATIENCE_SECS
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None:
            assert time.monotonic() < deadline
            for child in children.read_text().split() if children.exists() else ():
                os.kill(int(child), signal.SIGTERM)  # again and again: one that comes before Python runs is lost
            time.sleep(0.1)
        if process.stderr is not None and "Operation not permitted" in process.stderr.read():
            pytest.skip("no process may be the first of a namespace here")
    assert process.returncode == 143
