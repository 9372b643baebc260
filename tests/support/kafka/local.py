"""One real Apache Kafka broker as a Java process of this machine (KRaft: broker and controller in one node)."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.kafka import distribution
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

# Settings for a broker of one node and for quick tests. The container in choose.py shares them.
QUICK_SETTINGS: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker may come back only when its old session is over (9 s by default).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Short sessions, so that a killed member is noticed within a test: classic groups, then KIP-848.
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.heartbeat.interval.ms": "500",
}

_BATCH_HEADER: Final = struct.Struct(">qi")
"""The first offset of a record batch, and its length after these two (Kafka's documentation, "Record Batch")."""
_JVM: Final = (
    "-Xmx512m",
    # A test's broker lives for seconds: quick code early matters more than the best code later.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    # The JVM logs errors only: its lines about classes that it cannot archive would fill the broker's log.
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)
_LOG4J: Final = Path(__file__).with_name("log4j2.xml")
_FORMAT_SECS: Final = 60.0
_START_SECS: Final = 60.0
_STOP_SECS: Final = 20.0
_POLL_SECS: Final = 0.5
_TAIL_LINES: Final = 60
_TRIES: Final = 3


class LocalKafkaError(RuntimeError):
    """The broker did not obey; the message ends with the tail of its log."""


class LocalKafka:
    """A broker on 127.0.0.1 with ports and a folder of its own: ``with LocalKafka() as kafka: ...``.

    ``stop``, ``kill`` and ``restart`` keep port and records; ``close`` (the end of the ``with``) deletes them. Only the
    process started here is ever ended, and it ends with this process, however this one ends.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, jvm: Sequence[str] = (), classes: Path | None = None
    ) -> None:
        """Prepare a broker; ``settings`` are broker properties on top of QUICK_SETTINGS.

        ``{client}`` and ``{controller}`` in their values stand for the ports that the broker gets. ``cluster.id`` is
        the id of the cluster that it joins. ``jvm``: further options of the JVM. ``classes``: a folder of classes that
        the broker may load beside Kafka's.
        """
        self._jvm, self._classes = jvm, classes
        self._settings = {**QUICK_SETTINGS, **(settings or {})}
        self.cluster_id: Final = self._settings.pop("cluster.id", _new_id())
        self._folder: Path | None = None
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients: known once started, and the same after a restart."""
        if self._folder is None:
            raise LocalKafkaError("the broker was not started")
        return f"127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the broker and return when it answers; raises LocalKafkaError or DistributionMissingError."""
        if self.running:
            raise LocalKafkaError("the broker is already running")
        if self._folder is None:
            self._start_first()
        else:
            self._launch(self._folder)
        return self

    def stop(self) -> None:
        """End the broker in good order: it flushes and tells its clients. Does nothing when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the broker if it runs, and start it again with the same port and records."""
        self.stop()
        self.start()

    def cut_off(self, topic: str, partition: int, offset: int) -> None:
        """Remove the record batches from an offset on, as if they had never come. The broker must be down.

        The next start continues with the rest in a new leader epoch, as after an unclean leader election.
        """
        if self._folder is None or self.running:
            raise LocalKafkaError("the broker has to be down, and started before")
        [log] = (self._folder / "data" / f"{topic}-{partition}").glob("*.log")
        content, end = log.read_bytes(), 0
        while end < len(content):
            first, length = _BATCH_HEADER.unpack_from(content, end)
            if first >= offset:
                break
            end += _BATCH_HEADER.size + length
        log.write_bytes(content[:end])
        for index in log.parent.glob("*index"):
            index.unlink()

    def close(self) -> None:
        """End the broker and delete its records."""
        self.kill()  # the records go anyway, and a broker takes its time to stop in good order
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def log_tail(self) -> str:
        """Return the last lines of the broker's log (warnings and worse, and the JVM's lines)."""
        if self._folder is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            lines = (self._folder / "broker.log").read_text(errors="replace").splitlines()
            return "\n".join(lines[-_TAIL_LINES:])
        return ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_first(self) -> None:
        """Start on free ports, and on others when another process has taken them first."""
        for attempt in range(1, _TRIES + 1):
            try:
                folder = self._prepare()
                self._archive_classes(folder)
                self._launch(folder)
            except BaseException as error:
                self.close()
                if attempt == _TRIES or "already in use" not in str(error):
                    raise
            else:
                return

    def _prepare(self) -> Path:
        """Choose the ports and return a new folder with the configuration and formatted storage."""
        folder = self._folder = Path(tempfile.mkdtemp(prefix="pushrail-kafka-"))
        self._port, controller_port = free_ports(2)
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(folder / "data"),
            **self._settings,
        }
        config = folder / "server.properties"
        lines = "".join(f"{name}={value}\n" for name, value in properties.items())
        config.write_text(lines.replace("{client}", str(self._port)).replace("{controller}", str(controller_port)))
        self._format(folder, config)
        return folder

    def _format(self, folder: Path, config: Path) -> None:
        """Format the storage. Kafka's tool does it once per machine: a copy with ids of its own takes no JVM."""
        jars = distribution.ensure_jars()
        data, formatted = folder / "data", jars.with_name(f"{jars.name}-formatted")
        if formatted.exists():
            shutil.copytree(formatted, data)
            ids = {
                "node.id": self._settings.get("node.id", "1"), "version": "1",
                "cluster.id": self.cluster_id, "directory.id": _new_id(),
            }  # fmt: skip
            (data / "meta.properties").write_text("".join(f"{name}={value}\n" for name, value in ids.items()))
            return
        with (folder / "broker.log").open("ab") as log:
            done = subprocess.run(
                [*java_command(jars), "kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=_FORMAT_SECS,
                check=False,
            )
        if done.returncode != 0:
            raise LocalKafkaError(f"Kafka's storage could not be formatted:\n{self.log_tail()}")
        unfinished = formatted.with_name(f"{formatted.name}.{folder.name}.part")
        shutil.copytree(data, unfinished)
        with contextlib.suppress(OSError):  # another process was quicker
            unfinished.rename(formatted)
        shutil.rmtree(unfinished, ignore_errors=True)

    def _archive_classes(self, folder: Path) -> None:
        """Once per machine: let the JVM write down the classes it loaded; with that archive a start takes half as long.

        A JVM that cannot write or read the archive (another version, say) starts without it.
        """
        archive = _class_archive(distribution.ensure_jars())
        if archive.exists():
            return
        unfinished = folder / archive.name
        self._launch(folder, f"-XX:ArchiveClassesAtExit={unfinished}")
        self.stop()
        if unfinished.exists():
            beside = archive.with_name(f"{archive.name}.{folder.name}.part")
            shutil.move(unfinished, beside)  # across file systems, perhaps; the rename that follows is not
            beside.replace(archive)

    def _launch(self, folder: Path, *jvm: str) -> None:
        """Start the process, and wait until it answers."""
        java = java_command(distribution.ensure_jars(), *jvm, *self._jvm, classes=self._classes)
        command = [*java, "kafka.Kafka", str(folder / "server.properties")]
        with (folder / "broker.log").open("ab") as log:
            # A session of its own: an interrupt from the terminal is for the tests, which then end the broker.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        # Holds the reading end of a pipe whose writing end only this process has: however this process ends, the pipe
        # closes, and then the broker and its folder go. (A parent-death signal is Linux only and bound to one thread.)
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", 'cat >/dev/null; kill -9 "$1"; rm -rf "$2"', "sh", str(self._process.pid), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECS
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 50,
                "log_level": 0,
            }
        )
        while True:
            with contextlib.suppress(KafkaException):
                if admin.list_topics(timeout=_POLL_SECS).brokers:
                    return
            if process.poll() is not None:
                raise LocalKafkaError(f"Kafka ended with code {process.returncode} while starting:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise LocalKafkaError(f"Kafka did not answer within {_START_SECS:.0f} s:\n{self.log_tail()}")

    def _end(self, how: signal.Signals) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            watcher.kill()  # first, so that it can never meet a reused process id
            watcher.wait()
            watcher.stdin.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _new_id() -> str:
    """16 bytes in Kafka's base64, other ones each time."""
    return base64.urlsafe_b64encode(b"pushrail" + os.urandom(8)).decode().rstrip("=")


def _class_archive(jars: Path) -> Path:
    return jars.with_name(f"{jars.name}-classes.jsa")


def java_command(jars: Path, *jvm: str, classes: Path | None = None) -> list[str]:
    archive = _class_archive(jars)
    flags = [*_JVM, *jvm, *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else [])]
    # In a fixed order, since the archive of classes is valid for one class path only.
    class_path = os.pathsep.join(
        [*sorted(str(jar) for jar in jars.glob("*.jar")), *([str(classes)] if classes else [])]
    )
    return [distribution.find_java(), *flags, f"-Dlog4j2.configurationFile={_LOG4J}", "-cp", class_path]
