"""What is worth having of librdkafka's statistics."""

from __future__ import annotations

from typing import Any, Final

import orjson

from pushrail_stream.ports import ClientStatistics

INTERVAL_MS: Final = 2_000
_MICROSECONDS: Final = 1e6
_UP: Final = frozenset({"UP", "UPDATE"})


def read_statistics(statistics: dict[str, Any]) -> ClientStatistics:
    """The few figures of a client's statistics that operators act on."""
    brokers = [broker for broker in statistics["brokers"].values() if broker["nodeid"] >= 0]
    fetched = sum(
        partition["fetchq_cnt"] for topic in statistics["topics"].values() for partition in topic["partitions"].values()
    )
    return ClientStatistics(
        brokers_up=sum(broker["state"] in _UP for broker in brokers),
        rtt_secs=max((broker["rtt"]["avg"] for broker in brokers), default=0) / _MICROSECONDS,
        errors=sum(broker["txerrs"] + broker["rxerrs"] + broker["req_timeouts"] for broker in brokers),
        queued=fetched + statistics["msg_cnt"],
        rebalances=statistics.get("cgrp", {}).get("rebalance_cnt", 0),
    )


class StatisticsKeeper:
    """Keeps the newest statistics of a producer. Called in the thread that serves its reports."""

    def __init__(self) -> None:
        self.newest = ClientStatistics()

    def __call__(self, text: str) -> None:
        """Take statistics as librdkafka gives them."""
        self.newest = read_statistics(orjson.loads(text))
