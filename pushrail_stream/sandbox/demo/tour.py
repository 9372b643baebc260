"""The tour of a kept sandbox: its addresses, and commands to paste into another terminal."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from pushrail_stream.sandbox.demo.customers import CUSTOMERS, OUR_KEYS
from pushrail_stream.sandbox.demo.events import EXAMPLE_FILE, example_event
from pushrail_stream.sandbox.demo.world import CONFIG_FILE, World

_PROGRAM_FILE: Final = "pushrail-stream"
_REFUSED: Final = "dst_quito"
"""A destination whose dead letters can be replayed: its role may not put events."""


def tour_of(world: World, http_port: int) -> dict[str, Any]:
    """The addresses of everything that runs, commands to try with it, and the next step after them."""
    config = str(world.folder / CONFIG_FILE)
    program = shlex.quote(str(_write_program(world.folder, config)))
    key, destination = json.loads(example_event())["idempotencyKey"], CUSTOMERS[0].targets[0].id
    words = {
        "the event as the customer got it": f"sandbox inbox --key {key}",
        "each attempt to deliver it": f"attempts --key {key}",
        "an account of every delivery": "check --since 1h",
        "dead letters, and who caused them": "dlq list --since 1h",
        "the state of each destination": "destinations list --state",
        "changes of state that people should hear of": "notices",
        "one destination, tested step by step": f"destinations test {destination}",
        "the deliveries that a replay would send again": f"replay dlq --destination {_REFUSED} --dry-run",
        "the whole installation, problems first": "doctor",
        "workers, and destinations that need attention, until q": "top",
    }
    plan = f"curl -sS -w '\\n' -X PUT {world.bus.url}/_bus/plan -d"
    failing = {"rules": [{"match": {"operation": "PutEvents"}, "effect": {"kind": "callError", "status": 503}}]}
    return {
        "kafka": world.broker.bootstrap_servers,
        "aws": world.bus.url,
        "status_page": f"http://127.0.0.1:{http_port}/",
        "config": config,
        "environment": OUR_KEYS.variables(),
        "commands": {
            **_producers(world),
            **{name: f"{program} {line}" for name, line in words.items()},
            "break the bus": f"{plan} {shlex.quote(json.dumps(failing))}",
            "the deliveries that wait after 10 s, and until when": f"{program} retry list",
            "repair the bus": f"{plan} {shlex.quote(json.dumps({'rules': []}))}",
            "deliver them now": f"{program} retry now --destination {destination}",
            "another worker, until Ctrl-C": f"{program} run",
        },
        "next": (
            "send an event and see it arrive. Then break the bus, send it again, and see its attempts, the status page "
            "and the deliveries that wait. After that, begin an installation of your own in an empty folder: "
            f"{shlex.quote(sys.executable)} -m pushrail_stream config init"
        ),
    }


def _producers(world: World) -> dict[str, str]:
    """Commands that send the example event."""
    example = world.folder / EXAMPLE_FILE
    example.write_bytes(example_event())
    kafka, topic, customer = world.broker.bootstrap_servers, world.settings.topics.events, CUSTOMERS[0].external_id
    program = (
        "from confluent_kafka import Producer; "
        f'p = Producer({{"bootstrap.servers": "{kafka}", "partitioner": "murmur2_random"}}); '
        f'p.produce("{topic}", open("{example}", "rb").read(), "{customer}"); p.flush()'
    )
    commands = {"send an event": f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"}
    if shutil.which("kcat"):
        partitioner = "-X topic.partitioner=murmur2_random"
        commands["send an event with kcat"] = (
            f"kcat -P -b {kafka} {partitioner} -t {topic} -k {customer} {shlex.quote(str(example))}"
        )
    return commands


def _write_program(folder: Path, config: str) -> Path:
    """A script that runs this program with the sandbox's settings and keys, and with none of the caller's own."""
    variables = OUR_KEYS.variables() | {"PUSHRAIL_CONFIG": config, "AWS_EC2_METADATA_DISABLED": "true"}
    path = folder / _PROGRAM_FILE
    path.write_text(
        "#!/bin/sh\n"
        "# pushrail-stream in this sandbox alone: settings and AWS accounts of the environment do not count.\n"
        "for name in $(env | sed -nE 's/^((AWS|PUSHRAIL)_[A-Za-z0-9_]*)=.*/\\1/p'); do unset \"$name\"; done\n"
        f"export {' '.join(f'{name}={shlex.quote(value)}' for name, value in variables.items())}\n"
        f'exec {shlex.quote(sys.executable)} -m pushrail_stream "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o700)
    return path
