"""The embedded Kafka broker: librdkafka's built-in cluster, in this process, without Java, Docker or a download.

Other processes reach it over TCP on 127.0.0.1. It is librdkafka's own test double, which is declared experimental: it
serves the sandbox and quick tests, and says nothing about a real Kafka. Its limits, measured with librdkafka 2.16:

* Java's client 4.3, franz-go 1.22 and kafka-python 3.0 cannot connect: the refusal of ApiVersions above version 2 is
  malformed (the array's length takes one byte, not four). kafka-python does with ``api_version=(2, 0)``, which asks
  for no versions. Clients on librdkafka, aiokafka 0.14 and KafkaJS 2.2 connect;
* retention is 5 MiB per partition as stored, trimmed silently: compress, and keep the backlog small;
* no lookup of offsets by timestamp (always "no such record"), no transactions (aborted records are visible, offsets are
  not stored), no description of groups;
* no controller, which AdminClient waits for to change topics and to describe them; use ``create_topic`` here;
* classic rebalances take the session timeout minus one second, and a commit inside the revoke callback is refused;
* an unknown topic is created on first use with 4 partitions; the size of commit metadata is not limited.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING, Final, Self

import confluent_kafka
from confluent_kafka import cimpl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PRODUCER: Final = 0  # rd_kafka_type_t
_ERRSTR_BYTES: Final = 512
_PAUSE_SECS: Final = 0.001
"""Pause before a topic is created: of requests to the cluster that follow at once, one of eight is seen 1 s later."""

Declarations = dict[str, tuple[type | None, list[type]]]
"""C declarations from rdkafka.h and rdkafka_mock.h: name -> (result, arguments)."""
_DECLARATIONS: Final[Declarations] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set_log_cb": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "rd_kafka_conf_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [ctypes.c_void_p, ctypes.c_int32]),
}


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker cannot start, or refused a request."""


class EmbeddedBroker:
    """A Kafka cluster inside this process; ``with EmbeddedBroker.start({"pushrail.events": 4}) as broker: ...``.

    Usable from any thread, but not after a fork: librdkafka's threads do not exist in the child, so every call except
    ``close`` is refused there. Start children with *spawn* and give them ``bootstrap_servers``.
    """

    def __init__(self) -> None:
        # The extension module is opened, not the library: the loader then finds the symbols of the librdkafka that the
        # extension is linked with, the wheel's or the system's, and loads no second copy.
        self._lib = ctypes.CDLL(cimpl.__file__)
        declare(self._lib, _DECLARATIONS)
        self._pid = os.getpid()
        self._client = _new_client(self._lib)
        self._cluster: int | None = self._lib.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            self._lib.rd_kafka_destroy(self._client)
            raise EmbeddedBrokerError("librdkafka could not start its built-in cluster")
        # Kafka waits for more members of a new group; here the first one starts at once.
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap_servers: Final[str] = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    @classmethod
    def start(cls, topics: Mapping[str, int]) -> Self:
        """Start a cluster of one broker (id 1) that has ``topics`` (name -> number of partitions)."""
        broker = cls()
        try:
            for name, partitions in topics.items():
                broker.create_topic(name, partitions)
        except BaseException:
            broker.close()
            raise
        return broker

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic with one replica; raises EmbeddedBrokerError when it exists or the count is not positive."""
        if partitions < 1:
            raise EmbeddedBrokerError(f"topic {name!r} needs at least one partition, not {partitions}")
        time.sleep(_PAUSE_SECS)
        check(
            self._lib.rd_kafka_mock_topic_create(self._open_cluster(), name.encode(), partitions, 1),
            f"create topic {name!r}",
        )

    def close(self) -> None:
        """Stop the cluster and forget its records. Closing twice, or in a forked child, does nothing."""
        if self._cluster is None or os.getpid() != self._pid:
            return
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._cluster = None
        self._lib.rd_kafka_destroy(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_cluster(self) -> int:
        if os.getpid() != self._pid:
            raise EmbeddedBrokerError("the embedded broker lives in the process that started it, not in a forked child")
        if self._cluster is None:
            raise EmbeddedBrokerError("the embedded broker is closed")
        return self._cluster


def declare(lib: ctypes.CDLL, declarations: Declarations) -> None:
    """Declare functions of librdkafka. Raises EmbeddedBrokerError when the installed one does not export them."""
    for name, (result, arguments) in declarations.items():
        try:
            function = getattr(lib, name)
        except AttributeError:
            version = confluent_kafka.libversion()[0]
            raise EmbeddedBrokerError(
                f"librdkafka {version} as installed does not export {name}, so there is no embedded broker. "
                "Install confluent-kafka from its wheel, or use a real Kafka broker.",
            ) from None
        function.restype = result
        function.argtypes = arguments


def _new_client(lib: ctypes.CDLL) -> int:
    """Make the client instance that owns the cluster. It never connects anywhere itself, and it logs nothing."""
    errstr = ctypes.create_string_buffer(_ERRSTR_BYTES)
    conf = lib.rd_kafka_conf_new()
    lib.rd_kafka_conf_set_log_cb(conf, None)
    client: int | None = lib.rd_kafka_new(_PRODUCER, conf, errstr, _ERRSTR_BYTES)
    if not client:
        lib.rd_kafka_conf_destroy(conf)  # rd_kafka_new takes ownership only when it succeeds
        raise EmbeddedBrokerError(f"librdkafka could not start: {errstr.value.decode()}")
    return client


def check(code: int, action: str) -> None:
    """Raise EmbeddedBrokerError for an error code of librdkafka."""
    if code:
        raise EmbeddedBrokerError(f"the embedded broker could not {action}: {confluent_kafka.KafkaError(code)}")
