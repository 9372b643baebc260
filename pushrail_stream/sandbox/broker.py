"""The embedded Kafka broker: librdkafka's built-in cluster, in this process, without Java, Docker or a download.

Other clients and other processes reach it over TCP on 127.0.0.1. It is librdkafka's own test double, which is declared
experimental: it serves the sandbox and quick tests, and says nothing about a real Kafka. Its limits, measured with
librdkafka 2.16:

* retention is 5 MiB per partition as stored, trimmed silently: compress, and keep the backlog small;
* no lookup of offsets by timestamp (always "latest"), no transactions (aborted records are visible, offsets are not
  stored);
* no AdminClient calls that change something (``create_topics`` times out); use ``create_topic`` here;
* classic rebalances take the session timeout minus one second, and a commit inside the revoke callback is refused;
* an unknown topic is created on first use with 4 partitions; the size of commit metadata is not limited.
"""

from __future__ import annotations

import ctypes
import enum
import os
from typing import TYPE_CHECKING, Final, Self

import confluent_kafka
from confluent_kafka import cimpl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PRODUCER: Final = 0  # rd_kafka_type_t
_CONF_OK: Final = 0  # rd_kafka_conf_res_t
_ERRSTR_BYTES: Final = 512

# C declarations from rdkafka.h and rdkafka_mock.h: name -> (result, arguments).
_DECLARATIONS: Final[dict[str, tuple[type | None, list[type]]]] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
    ),
    "rd_kafka_conf_set_log_cb": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "rd_kafka_conf_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [ctypes.c_void_p, ctypes.c_int16]),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [ctypes.c_void_p, ctypes.c_int32]),
}


class ApiKey(enum.IntEnum):
    """Requests that tests make fail; other keys are numbers (https://kafka.apache.org/protocol#protocol_api_keys)."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_COMMIT = 8


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker cannot start, or refused a request."""


class EmbeddedBroker:
    """A Kafka cluster inside this process; ``with EmbeddedBroker.start({"pushrail.events": 4}) as broker: ...``.

    Usable from any thread, but not after a fork: librdkafka's threads do not exist in the child, so every call except
    ``close`` is refused there. Start children with *spawn* and give them ``bootstrap_servers``.
    """

    def __init__(self) -> None:
        self._lib = _load()
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
        _check(
            self._lib.rd_kafka_mock_topic_create(self._open_cluster(), name.encode(), partitions, 1),
            f"create topic {name!r}",
        )

    def push_request_errors(self, api_key: int, *errors: int) -> None:
        """Answer the next requests of one kind with these error codes, one each, in order; code 0 lets one through.

        Codes are constants of ``confluent_kafka.KafkaError``; ``_TRANSPORT`` drops the connection instead of answering.
        """
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(self._open_cluster(), api_key, len(errors), codes)

    def clear_request_errors(self, api_key: int) -> None:
        """Forget the errors still waiting for requests of this kind."""
        self._lib.rd_kafka_mock_clear_request_errors(self._open_cluster(), api_key)

    def set_rtt(self, broker_id: int, rtt_ms: int) -> None:
        """Delay every answer of one broker by ``rtt_ms`` milliseconds."""
        _check(self._lib.rd_kafka_mock_broker_set_rtt(self._open_cluster(), broker_id, rtt_ms), "set the round trip")

    def set_broker_down(self, broker_id: int) -> None:
        """Disconnect every client of one broker and accept no connection until ``set_broker_up``."""
        _check(self._lib.rd_kafka_mock_broker_set_down(self._open_cluster(), broker_id), "take the broker down")

    def set_broker_up(self, broker_id: int) -> None:
        """Let one broker accept connections again; its records are still there."""
        _check(self._lib.rd_kafka_mock_broker_set_up(self._open_cluster(), broker_id), "bring the broker up")

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


def _load() -> ctypes.CDLL:
    """Return the librdkafka that confluent_kafka uses, with the functions of `_DECLARATIONS` declared.

    The extension module is opened, not the library: the loader then finds the symbols of the librdkafka that the
    extension is linked with, the wheel's or the system's, and loads no second copy.
    """
    lib = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _DECLARATIONS.items():
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
    return lib


def _new_client(lib: ctypes.CDLL) -> int:
    """Make the client instance that owns the cluster. It never connects anywhere itself, and it logs nothing."""
    errstr = ctypes.create_string_buffer(_ERRSTR_BYTES)
    conf = lib.rd_kafka_conf_new()
    if lib.rd_kafka_conf_set(conf, b"log_level", b"0", errstr, _ERRSTR_BYTES) != _CONF_OK:
        lib.rd_kafka_conf_destroy(conf)
        raise EmbeddedBrokerError(f"librdkafka refused its settings: {errstr.value.decode()}")
    lib.rd_kafka_conf_set_log_cb(conf, None)
    client: int | None = lib.rd_kafka_new(_PRODUCER, conf, errstr, _ERRSTR_BYTES)
    if not client:
        lib.rd_kafka_conf_destroy(conf)  # rd_kafka_new takes ownership only when it succeeds
        raise EmbeddedBrokerError(f"librdkafka could not start: {errstr.value.decode()}")
    return client


def _check(code: int, action: str) -> None:
    if code:
        raise EmbeddedBrokerError(f"the embedded broker could not {action}: {confluent_kafka.KafkaError(code)}")
