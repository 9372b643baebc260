"""The embedded broker with faults: refused requests, slow answers, and a broker that is down."""

from __future__ import annotations

import ctypes
import enum
from typing import Final

from pushrail_stream.sandbox.broker import Declarations, EmbeddedBroker, check, declare

_DECLARATIONS: Final[Declarations] = {
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [ctypes.c_void_p, ctypes.c_int16]),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
}


class ApiKey(enum.IntEnum):
    """Requests that tests make fail; other keys are numbers (https://kafka.apache.org/protocol#protocol_api_keys)."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_COMMIT = 8


class BreakableBroker(EmbeddedBroker):
    """An embedded broker whose faults a test decides."""

    def __init__(self) -> None:
        super().__init__()
        declare(self._lib, _DECLARATIONS)

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
        check(self._lib.rd_kafka_mock_broker_set_rtt(self._open_cluster(), broker_id, rtt_ms), "set the round trip")

    def set_broker_down(self, broker_id: int) -> None:
        """Disconnect every client of one broker and accept no connection until ``set_broker_up``."""
        check(self._lib.rd_kafka_mock_broker_set_down(self._open_cluster(), broker_id), "take the broker down")

    def set_broker_up(self, broker_id: int) -> None:
        """Let one broker accept connections again; its records are still there."""
        check(self._lib.rd_kafka_mock_broker_set_up(self._open_cluster(), broker_id), "bring the broker up")
