"""The statistics of librdkafka, as far as they are kept."""

from __future__ import annotations

import json

from pushrail_stream.kafka.statistics import StatisticsKeeper
from pushrail_stream.ports.kafka import ClientStatistics


def test_statistics_keep_the_useful_numbers() -> None:
    keeper = StatisticsKeeper()
    assert keeper.newest == ClientStatistics()
    up = {"nodeid": 1, "state": "UP", "rtt": {"avg": 1_500}, "txerrs": 1, "rxerrs": 2, "req_timeouts": 3}
    down = up | {"nodeid": 2, "state": "DOWN", "rtt": {"avg": 9_000}}
    bootstrap = up | {"nodeid": -1, "rtt": {"avg": 99_000}}
    topics = {"t": {"partitions": {"0": {"fetchq_cnt": 5}, "1": {"fetchq_cnt": 2}}}}
    statistics = {"brokers": {"a": up, "b": down, "c": bootstrap}, "topics": topics, "msg_cnt": 4}
    keeper(json.dumps(statistics | {"cgrp": {"rebalance_cnt": 8}}))
    assert keeper.newest == ClientStatistics(1, 0.009, 12, 11, 8)
    keeper(json.dumps(statistics))
    assert keeper.newest.rebalances == 0, "a producer has no group"
    keeper(json.dumps(statistics | {"brokers": {"b": down | {"txerrs": 2}}}))
    assert keeper.newest.errors == 13, "what a broker counted that has left is not forgotten, and nothing counted twice"
    keeper(json.dumps(statistics | {"brokers": {"b": down | {"txerrs": 0}}}))
    assert keeper.newest.errors == 13
