"""Where the suite's real Kafka comes from: an address given, a container, or a local Java process, in this order."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import tarfile
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.kafka import distribution
from tests.support.kafka.local import QUICK_SETTINGS, LocalKafka

if TYPE_CHECKING:
    from collections.abc import Callable

    from testcontainers.core.container import DockerContainer

ADDRESS_VARIABLE: Final = "PUSHRAIL_TEST_KAFKA"
WHAT_TO_INSTALL: Final = f"Install Docker, or Java 17 + Maven, or set {ADDRESS_VARIABLE}=host:port."

_IMAGE: Final = f"apache/kafka:{distribution.KAFKA_VERSION}"
_CLIENT_PORT: Final = 9092
_START_SCRIPT: Final = "/tmp/pushrail-start.sh"  # noqa: S108 - inside the container, which is ours alone
_ENGINE_ANSWER_SECS: Final = 2
_START_SECS: Final = 60.0
_POLL_SECS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RealKafka:
    """A running broker: its address, where it comes from, and how to end it."""

    bootstrap_servers: str
    origin: str
    stop: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Missing:
    """No real broker can be had here, and why."""

    reason: str


def start_real_kafka() -> RealKafka | Missing:
    """Start, or find, the broker of this run. May take minutes the first time, when image or jars are fetched.

    An address that does not answer, or a Kafka that does not start, is an error and not a missing broker.
    """
    address = os.environ.get(ADDRESS_VARIABLE)
    if address:
        _wait_until_it_answers(address)
        return RealKafka(address, ADDRESS_VARIABLE, leave_running)
    container = _from_container()
    if isinstance(container, RealKafka):
        return container
    local = _from_local_process()
    if isinstance(local, RealKafka):
        return local
    return Missing(f"{container.reason}; {local.reason}. {WHAT_TO_INSTALL}")


def _from_local_process() -> RealKafka | Missing:
    reason = distribution.missing()
    if reason is not None:
        return Missing(reason)
    try:
        kafka = LocalKafka().start()
    except distribution.DistributionMissingError as error:
        return Missing(str(error))
    return RealKafka(kafka.bootstrap_servers, "local process", kafka.close)


def _from_container() -> RealKafka | Missing:
    """Start Apache's own image. testcontainers' KafkaContainer is for Confluent's image, whose start scripts differ.

    The host's port, which the broker has to advertise, is known only once the container runs. So the container first
    waits for its start script, as in testcontainers for Java.
    """
    if not _engine_answers():
        return Missing("no Docker engine answers")
    # Not at the head of the file: importing it takes half a second, and it is of no use without an engine.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    container = DockerContainer(_IMAGE)
    container.with_exposed_ports(_CLIENT_PORT)
    container.with_envs(**_container_environment())
    container.with_command(["sh", "-c", f"while [ ! -f {_START_SCRIPT} ]; do sleep 0.1; done; exec sh {_START_SCRIPT}"])
    try:
        container.start()
    except Exception as error:  # noqa: BLE001 - no registry, no space, no permission: Java may do instead
        with contextlib.suppress(Exception):
            container.stop()
        return Missing(f"Docker could not start {_IMAGE}: {error}")
    try:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(_CLIENT_PORT)}"
        _put_start_script(container, address)
        _wait_until_it_answers(address)
    except BaseException:
        container.stop()
        raise
    return RealKafka(address, "container", container.stop)


def _engine_answers() -> bool:
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - as above

    with warnings.catch_warnings():
        # The client forgets its socket when no server answers, and the suite turns warnings into errors.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            engine = DockerClient(timeout=_ENGINE_ANSWER_SECS)
            with contextlib.closing(engine.client):
                return bool(engine.client.ping())
        except Exception:  # noqa: BLE001 - no socket, a refused connection, a broken context: each is "no engine"
            return False
        finally:
            gc.collect()


def _container_environment() -> dict[str, str]:
    """Return the image's environment: properties as KAFKA_..., dots as underscores (Apache Kafka's docker/README)."""
    properties = {
        **QUICK_SETTINGS,
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9094",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://0.0.0.0:{_CLIENT_PORT},BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
    }
    return {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in properties.items()}


def _put_start_script(container: DockerContainer, address: str) -> None:
    script = (
        f"export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://{address},BROKER://localhost:9093\nexec /etc/kafka/docker/run\n"
    ).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(_START_SCRIPT.lstrip("/"))
        entry.size = len(script)
        entry.mode = 0o755
        tar.addfile(entry, io.BytesIO(script))
    container.get_wrapped_container().put_archive("/", archive.getvalue())


def _wait_until_it_answers(address: str) -> None:
    deadline = time.monotonic() + _START_SECS
    admin = AdminClient({"bootstrap.servers": address, "reconnect.backoff.max.ms": 200, "log_level": 0})
    while True:
        with contextlib.suppress(KafkaException):
            if admin.list_topics(timeout=_POLL_SECS).brokers:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no Kafka broker answered at {address} within {_START_SECS:.0f} s")


def leave_running() -> None:
    """Do nothing: a broker that was given is not ours to stop."""
