"""Mutants of the pipeline: settlement, attempts, assignments, retries and the bus monitor."""

from __future__ import annotations

from typing import Final

from tests.simulation.mutants.mutant import mutant

MUTANTS: Final = (
    mutant(
        "settle before the acknowledgement",
        "pipeline.settlement:Settlement._write",
        "while True:",
        "settle()\n    settle = bool\n    while True:",
    ),
    mutant(
        "ignore a failed publish",
        "pipeline.settlement:Settlement._write",
        "failures += 1",
        "break",
    ),
    mutant(
        "skip without a record",
        "pipeline.settlement:Settlement.skip",
        "self._observe(signal)",
        "pass",
    ),
    mutant(
        "count a delivery twice",
        "pipeline.settlement:Settlement.delivered",
        "self._ledger.delivered += 1",
        "self._ledger.delivered += 2",
    ),
    mutant(
        "write a copy on a higher tier than it was decided",
        "pipeline.settlement:Settlement._retry_on",
        "tier=step.tier",
        "tier=self._policy.tiers[-1]",
    ),
    mutant(
        "dead-letter the copies of a delivery with another destination's name",
        "core.copy:Copy.of",
        "destination_id=delivery.destination_id",
        "destination_id=delivery.destination_id.upper()",
    ),
    mutant(
        "drop the last entry of a split batch",
        "pipeline.attempt:AttemptRunner._split",
        "unsent = deque(batch.deliveries)",
        "unsent = deque(batch.deliveries[:-1])",
    ),
    mutant(
        "forget the entries of a split batch that the bus stopped answering",
        "pipeline.attempt:AttemptRunner._split",
        "self._return(attempt, unsent, entry.decision)",
        "pass",
    ),
    mutant(
        "wrong attempt number",
        "pipeline.attempt:AttemptRunner._call",
        "delivery.attempts += 1",
        "delivery.attempts += 2",
    ),
    mutant(
        "let a call outlive the hold of its deliveries",
        "pipeline.attempt:AttemptRunner._call",
        "asyncio.timeout(secs)",
        "asyncio.timeout(None)",
    ),
    mutant(
        "forget a delivery on revoke",
        "pipeline.dispatcher:Dispatcher.drop_revoked",
        "abandoned += 1",
        "delivery.settle()",
    ),
    mutant(
        "keep the entries of revoked partitions",
        "pipeline.dispatcher:Dispatcher.drop_revoked",
        "delivery.pending.is_revoked",
        "False",
    ),
    mutant(
        "deliver by an old document",
        "pipeline.dispatcher:Dispatcher._follow_document",
        "if destination is not lane.destination:",
        "if False:",
    ),
    mutant(
        "deliver to the customer that got a destination's id later",
        "pipeline.dispatcher:Dispatcher._adopt",
        "if destination.owner != lane.destination.owner:",
        "if False:",
    ),
    mutant(
        "never ask whether a bus exists",
        "pipeline.dispatcher:Dispatcher._follow_bus",
        '"open" if lane.is_idle else self._bus_monitor.watch(lane.destination)',
        '"open"',
    ),
    mutant(
        "never look again for a missing bus",
        "pipeline.bus_monitor:BusMonitor._take",
        "self._loop.call_later(status.pause_secs, self._check_again, watched)",
        "None",
    ),
    mutant(
        "believe a missing bus",
        "pipeline.bus_monitor:BusMonitor.judge",
        "if watched.status.missing is not None:",
        "if False:",
    ),
    mutant(
        "deliver what the filter leaves out",
        "pipeline.admission:Admission.admit",
        "elif delivery.tier == 0 and not destination.wants(delivery.event.event_type):",
        "elif False:",
    ),
    mutant(
        "ignore buffer limits",
        "pipeline.assignment:Assignment.flow_control",
        "holding = events >= limits.max_events * share or size >= limits.max_bytes * share",
        "holding = False",
    ),
    mutant(
        "never resume after a full buffer",
        "pipeline.assignment:Assignment.flow_control",
        "share = limits.resume_share if self._holding else 1.0",
        "share = 0.0 if self._holding else 1.0",
    ),
    mutant(
        "never resume a full partition",
        "pipeline.assignment:Assignment._is_full",
        "share = self._limits.resume_share if partition in self._full else 1.0",
        "share = 0.0 if partition in self._full else 1.0",
    ),
    mutant(
        "take a truncated log for an error of Kafka",
        "pipeline.assignment:Assignment.accept",
        "if record.offset < tracker.read_to:",
        "if False:",
    ),
    mutant(
        "drop the early records of a recreated retry topic",
        "pipeline.assignment:Assignment._replace",
        "self._early.begin_all(partition)",
        "self._early.drop(partition)",
    ),
    mutant(
        "begin the early records of a revoked partition",
        "pipeline.early_records:EarlyRecords.drop",
        "self._queues.pop(partition, None)",
        "pass",
    ),
    mutant(
        "never commit past the markers at the end of a partition",
        "pipeline.read_progress:ReadProgress.note",
        "tracker.pass_over(position)",
        "pass",
    ),
    mutant(
        "ignore the delay of retry topics",
        "pipeline.retry_consumer:RetryConsumer.take",
        "self._loop.time() + wait_ms / 1000",
        "self._loop.time()",
    ),
    mutant(
        "count the attempts of a retry from its beginning",
        "pipeline.retry_consumer:RetryConsumer._deliver",
        "delivery.attempts = headers.attempts",
        "delivery.attempts = 0",
    ),
    mutant(
        "let a wait that is our fault count for a delivery's age",
        "pipeline.retry_consumer:RetryConsumer._first_attempt_ms",
        "return min(first_ms + waited_ms, now_ms)",
        "return min(first_ms, now_ms)",
    ),
    mutant(
        "retry to a destination that belongs to another customer now",
        "pipeline.retry_consumer:RetryConsumer._destination",
        "and destination.owner == event.owner",
        "",
    ),
    mutant(
        "disobey the order to skip an unreadable batch",
        "pipeline.unread_partitions:UnreadPartitions._obey",
        "if skip is not None:",
        "if False:",
    ),
)
