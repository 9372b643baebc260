"""After the play: everything stays, a worker goes on consuming, and whoever likes may join in."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pushrail_stream.observe.logging import open_log
from pushrail_stream.sandbox.demo.customers import CUSTOMERS
from pushrail_stream.sandbox.demo.events import EXAMPLE_FILE, example_event
from pushrail_stream.sandbox.demo.play import World
from pushrail_stream.sandbox.demo.world import CONFIG_FILE
from pushrail_stream.worker import Worker, run_worker


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is, and lines to type."""

    kafka: str
    aws: str
    config: str
    """For ``pushrail-stream ... --config``."""
    environment: Mapping[str, str]
    """The sandbox's own credentials, which a worker needs to assume the customers' roles."""
    run: str
    produce_kcat: str
    produce_python: str
    receive: str
    """Reads the queue of the example event's customer, as that customer."""


async def keep(world: World, log_level: str, announce: Callable[[Addresses], None]) -> None:
    """Consume until SIGINT or SIGTERM; ``announce`` is called once the worker runs. The log goes to stderr."""

    def started(worker: Worker) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        announce(addresses)

    addresses = _addresses(world)
    await run_worker(world.settings, world.directory, open_log(log_level), started=started)


def _addresses(world: World) -> Addresses:
    example = world.folder / EXAMPLE_FILE
    example.write_bytes(example_event())
    config = str(world.folder / CONFIG_FILE)
    kafka, topic = world.broker.bootstrap_servers, world.settings.topics.events
    customer = CUSTOMERS[0]
    inbox = world.accounts.inboxes[customer.targets[0].id]
    program = (
        "from confluent_kafka import Producer; "
        f'p = Producer({{"bootstrap.servers": "{kafka}", "partitioner": "murmur2_random"}}); '
        f'p.produce("{topic}", open("{example}", "rb").read(), "{customer.external_id}"); p.flush()'
    )
    return Addresses(
        kafka=kafka,
        aws=world.stand_in.url,
        config=config,
        environment=world.variables,
        run=f"{_exports(world.variables)} pushrail-stream run --config {shlex.quote(config)}",
        produce_kcat=(
            f"kcat -P -b {kafka} -X topic.partitioner=murmur2_random -t {topic} -k {customer.external_id} "
            f"{shlex.quote(str(example))}"
        ),
        produce_python=f"python -c {shlex.quote(program)}",
        receive=(
            f"AWS_ACCESS_KEY_ID={inbox.owner.access_key_id} AWS_SECRET_ACCESS_KEY={shlex.quote(inbox.owner.secret)} "
            f"aws --endpoint-url {world.stand_in.url} --region {inbox.region} sqs receive-message "
            f"--queue-url {inbox.queue_url}"
        ),
    )


def _exports(variables: Mapping[str, str]) -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
