"""Mutants of the core: offsets, commits, lanes, health, retries, copies and the flood guard."""

from __future__ import annotations

from typing import Final

from tests.simulation.mutants.mutant import Change, Mutant, mutant

_FAR_AND_THROTTLED: Final = (
    "settings?delivery.max_in_flight=12&delivery.max_entries=1&delivery.hold_secs=30",
    "move_away?at=15&way_secs=0.05&secs=100",
    "produce_events?at=20&count=300&secs=1",
    "trouble_of_one_account?at=21&kind=call:ThrottlingException&share=0.3&secs=1",
    "produce_events?at=30&count=600&secs=2",
)
"""A window reaches its limit, and its destination throttles. Events that come later fill it again."""
_HELD_BACK: Final = (
    "settings?limits.max_buffered_events=40",
    "produce_events?at=20&count=400&secs=1",
    "elect_unclean?at=21&topic=pushrail.events&lost=3",
)
"""A log loses its end while a worker has fetched more than it takes."""
_ROLLS: Final = (
    "settings?delivery.hold_secs=30",
    "produce_events?at=15&count=150&secs=30&transactions=false",
    'trouble_of_one_account?at=20&account="111000000000"&kind=hang&share=1&secs=60',
    "roll_fleet?at=38&grace_secs=30&pause=3",
    "roll_fleet?at=50&grace_secs=30&pause=3",
)
"""Partitions get other owners while one customer's deliveries hold back the commits."""
_DOWN: Final = (
    "settings?delivery.max_in_flight=8&delivery.max_entries=1&delivery.hold_secs=30",
    'produce_events?at=20&count=200&secs=1&hot="customer-0"',
    'trouble_of_one_account?at=20&account="111000000000"&kind=call:ServiceUnavailable&share=1&secs=60',
)
"""The bus of one customer is down while many events wait for it."""
MUTANTS: Final = (
    mutant(
        "commit one too far",
        "core.offsets:OffsetTracker._head",
        "self._span[0].offset if",
        "self._span[0].offset + 1 if",
        needs=["kill_worker", "trouble_of_one_account", "regional_outage"],
    ),
    mutant(
        "commit before settlement",
        "core.offsets:OffsetTracker.track",
        "self._span.append(pending)\n    self.open_records",
        "self.open_records",
        needs=["kill_worker"],
    ),
    mutant(
        "settle a record with its first delivery",
        "core.pending:PendingRecord.settle",
        "self._open == 0",
        "True",
    ),
    mutant(
        "drop a shared record on revoke instead of moving its delivery to a retry topic",
        "core.pending:PendingRecord.is_for_next_owner",
        "owner.is_revoked and not self._is_shared",
        "owner.is_revoked",
        needs=[
            "settings?delivery.max_entries=1&delivery.hold_secs=30",
            "limit_destination?per_second=0.5",
            "produce_events?count=100&secs=60",
            "scale_fleet",
            "scale_fleet",
            "roll_fleet",
        ],
    ),
    mutant(
        "abandon the open records of a recreated topic",
        "core.pending:PendingRecord.is_for_next_owner",
        "if owner.is_replaced:",
        "if False:",
        needs=[
            "settings?delivery.hold_secs=30",
            "recreate_topic?topic=pushrail.events&secs=0.3",
            "regional_outage?kind=hang",
            "regional_outage?kind=hang",
            "produce_events?count=100&secs=60",
        ],
    ),
    mutant(
        "lose the map of settled offsets",
        "core.offsets:OffsetTracker.committable",
        "settled, self.topic",
        "[], self.topic",
        needs=_ROLLS,
    ),
    mutant(
        "shift the map of settled offsets by one",
        "core.offset_set:unpack",
        "head + i for i",
        "head + i + 1 for i",
        needs=["kill_worker", "trouble_of_one_account", "regional_outage"],
    ),
    mutant(
        "restore the map of another topic",
        "core.commit:settled_map",
        "_map_of(committed) if topic_of(committed) == topic else SettledMap([])",
        "_map_of(committed)",
        needs=["mirror_offsets"],
    ),
    mutant(
        "restore the map for records that took the offsets of lost ones",
        "core.offsets:OffsetTracker.meet_epoch",
        "known[-1] >= offset",
        "False",
        needs=["replace_newest_records?lost=10", "trouble_of_one_account?kind=hang&share=1.0"],
    ),
    mutant(
        "restore the map of another offset",
        "core.commit:_read",
        " or parts[1] != str(committed.offset)",
        "",
        needs=[
            "settings?delivery.hold_secs=30",
            "trouble_of_one_account?kind=call:ServiceUnavailable&share=1&secs=100",
            "produce_events?count=100&secs=60",
            "shift_offsets",
        ],
    ),
    mutant(
        "pass over records that a client threw away at an election",
        "core.offsets:OffsetTracker.doubts",
        "offset == self.read_to",
        "offset >= self.read_to",
        needs=_HELD_BACK,
    ),
    mutant(
        "ignore the topic id",
        "core.commit:was_recreated",
        "old.topic_id != new.topic_id",
        "False",
        needs=["elect_leader?topic=pushrail.events", "recreate_topic?topic=pushrail.events"],
    ),
    mutant(
        "forget a retry in memory",
        "core.queue:Queue.add_retry",
        "heapq.heappush(self.retries, (at, self._order, delivery))",
        "pass",
        needs=["aws.call:ServiceUnavailable"],
    ),
    mutant(
        "hold without end",
        "core.lane:Lane.offer",
        "now + self._limits.hold_secs",
        "now + 3600.0",
        needs=["regional_outage", "trouble_of_one_account"],
    ),
    mutant(
        "send full batches to a suspended destination",
        "core.lane:Lane.take",
        "self.call_limits._replace(max_entries=1) if self.is_suspended else self.call_limits",
        "self.call_limits",
        needs=["deny_by_policy"],
    ),
    mutant(
        "exceed the calls in flight that a destination allows",
        "core.window:Window._resize",
        "min(size, self.limit)",
        "self.limit + 1",
    ),
    mutant(
        "leave a window as it is when its destination throttles",
        "core.window:Window.throttled",
        "self._cut(max(1, size // 2), now)",
        "self._cut(size, now)",
        needs=_FAR_AND_THROTTLED,
    ),
    mutant(
        "let a window grow to the size at which its destination throttled",
        "core.window:Window._adjust",
        "if now < self._below_until else",
        "if False else",
        needs=_FAR_AND_THROTTLED,
    ),
    mutant(
        "make as many calls to a destination that is down as before",
        "core.health:Health.max_calls",
        "or self.is_ill",
        "",
        needs=_DOWN,
    ),
    mutant(
        "make no pause between the calls to a destination that is down",
        "core.outage:Outage.failed",
        "now + PAUSES.pause_secs(self._pauses)",
        "now",
        needs=_DOWN,
    ),
    mutant(
        "never probe a destination that is down",
        "core.outage:Outage.failed",
        "now + PAUSES.pause_secs(self._pauses)",
        "now + 1e9",
        needs=_DOWN,
    ),
    mutant(
        "let each destination of a region that is down probe it",
        "core.outage:Outage.next_call_at",
        "max(self._probe_at, endpoint.probe_at_of(self._turn))",
        "self._probe_at",
        needs=[
            "settings?delivery.max_entries=1&delivery.hold_secs=30&delivery.max_in_flight=8",
            "destinations?region=us-east-1&is_v2=false",
            "produce_events?at=20&count=300&secs=10",
            "regional_outage?at=20&kind=call:ServiceUnavailable&region=us-east-1&secs=60",
        ],
    ),
    mutant(
        "call a destination faster than its limit",
        "core.health:Health.begin_call",
        "self.call_rate.spend(now)",
        "pass",
        needs=["limit_destination"],
    ),
    mutant(
        "never probe a suspended destination",
        "core.suspension:Suspension.count_blocked",
        "now + PROBES.pause_secs(self._failed_probes + 1)",
        "now + 1e9",
        needs=["deny_by_policy"],
    ),
    mutant(
        "never suspend a destination",
        "core.suspension:Suspension.count_blocked",
        "elif self._blocked >= SUSPEND_AFTER:",
        "elif False:",
        needs=["deny_by_policy?secs=100"],
    ),
    mutant(
        "count probes twice",
        "core.suspension:Suspension.count_blocked",
        "self._failed_probes += 1",
        "self._failed_probes += 2",
        needs=["deny_by_policy"],
    ),
    mutant(
        "never release a suspension",
        "core.health:Health.clear",
        "self.suspension.end(now)",
        "None",
        needs=["deny_by_policy?secs=25", "delete_role?secs=25"],
    ),
    Mutant(
        "ignore max age",
        (
            Change(
                "core.retry:_retry",
                "if policy.ends(state) and not is_our_delay(outcome):",
                "if False:",
            ),
            Change(
                "pipeline.settlement:Settlement.retry_later",
                "if self._policy.ends(state) and not problem.is_our_delay:",
                "if False:",
            ),
        ),
        needs=(
            "settings?delivery.max_age_secs=45",
            "trouble_of_one_account?kind=call:ServiceUnavailable&share=1&secs=150",
        ),
    ),
    mutant(
        "expire a delivery at its first failure",
        "core.retry:RetryPolicy.ends",
        "state.age_secs >= max_age_secs",
        "state.age_secs >= 0",
        needs=["aws.call:ServiceUnavailable"],
    ),
    mutant(
        "expire a delivery that waits because of our own fault",
        "core.retry:_retry",
        "and not is_our_delay(outcome):",
        "and True:",
        needs=[
            "settings?delivery.max_age_secs=45",
            "lose_own_credentials?how=revoke&secs=120",
            "roll_fleet?pause=1&grace_secs=3",
        ],
    ),
    mutant(
        "follow each jump of the machine's clock",
        "clock:SteadyClock.now_ms",
        "elif now - self._began_at >= _NEW_SECS:",
        "elif False:",
        needs=[
            "settings?delivery.max_age_secs=86400&delivery.hold_secs=5",
            "jump_clock?at=75&worker=0&secs=90000&back_secs=40",
            "regional_outage?at=60&kind=connection_refused&region=us-east-1&secs=50",
            "regional_outage?at=60&kind=connection_refused&region=eu-west-1&secs=50",
        ],
    ),
    mutant(
        "give each retry the first retry topic",
        "core.retry:move_on",
        "RetryOnTopic(policy.tiers[tier], reason)",
        "RetryOnTopic(policy.tiers[0], reason)",
        needs=["trouble_of_one_account"],
    ),
    mutant(
        "drop the producer's headers of a copy",
        "core.copy:Copy.headers",
        "encode_headers(state, self.record.headers)",
        "encode_headers(state, ())",
    ),
    mutant(
        "forget the beginning of a delivery in its copy",
        "core.copy:Copy.headers",
        "first_attempt_at_ms=self.first_attempt_ms,",
        "",
        needs=["trouble_of_one_account"],
    ),
    mutant(
        "name the copy of another position",
        "core.headers:original_of",
        "Record(topic, partition, offset,",
        "Record(topic, partition, offset + 1,",
        needs=["trouble_of_one_account"],
    ),
    mutant(
        "flood guard that never stops",
        "core.flood_guard:FloodGuard._check",
        "if tally.missing <= 0:",
        "if False:",
        needs=[
            "settings?flood_guard.enabled=true&flood_guard.min_dead_letters=20",
            "produce_poison?count=250",
        ],
    ),
    mutant(
        "flood guard that stops for one customer",
        "core.flood_guard:FloodGuard._tally",
        "limits.min_dead - (total - most),\n"
        "        math.ceil(worst - (total - limits.share * records)),\n"
        "        limits.min_customers - affected,",
        "0, limits.min_dead - total,",
        needs=["produce_poison"],
    ),
)
