"""The part of librdkafka's statistics that operators need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import orjson

from pushrail_stream.ports.kafka import ClientStatistics

INTERVAL_MS: Final = 2_000
_MICROSECONDS: Final = 1e6
_UP: Final = frozenset({"UP", "UPDATE"})


@final
class StatisticsKeeper:
    """Keeps the newest statistics of a client. Called in the thread that serves its reports."""

    def __init__(self) -> None:
        self.newest = ClientStatistics()
        self._seen: dict[str, int] = {}
        self._errors = 0

    def __call__(self, text: str) -> dict[str, Any]:
        """Keep statistics in librdkafka's JSON, and return them parsed."""
        statistics: dict[str, Any] = orjson.loads(text)
        brokers = {name: broker for name, broker in statistics["brokers"].items() if broker["nodeid"] >= 0}
        fetched = sum(
            partition["fetchq_cnt"]
            for topic in statistics["topics"].values()
            for partition in topic["partitions"].values()
        )
        self.newest = ClientStatistics(
            brokers_up=sum(broker["state"] in _UP for broker in brokers.values()),
            rtt_secs=max((broker["rtt"]["avg"] for broker in brokers.values()), default=0) / _MICROSECONDS,
            errors=self._all_errors(brokers),
            queued=fetched + statistics["msg_cnt"],
            rebalances=statistics.get("cgrp", {}).get("rebalance_cnt", 0),
        )
        return statistics

    def _all_errors(self, brokers: Mapping[str, dict[str, Any]]) -> int:
        """Errors of all brokers so far: a broker that leaves takes its counts along, and no counter may fall."""
        for name, broker in brokers.items():
            errors = broker["txerrs"] + broker["rxerrs"] + broker["req_timeouts"]
            self._errors += max(0, errors - self._seen.get(name, 0))
            self._seen[name] = errors
        return self._errors
