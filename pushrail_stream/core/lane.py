"""The lane: one destination's queue and its batching. A state machine with time as an argument.

Rules for calls. A batch leaves when it is full (entries or bytes), when its first entry has waited for the
destination's ``flushMs``, or when a retry is due. With a ``flushMs`` of 0 it leaves at once while no call is in flight,
and otherwise waits for the end of the calls, for 100 ms at most. The window bounds the batches in flight, and the
destination's rate spaces the calls. A suspended lane sends one delivery at a time, its probe, while the others wait for
the answer. A shut lane sends nothing until it is known whether its bus exists.

Rules for waiting. A destination is stuck when it is down or suspended, when calls bring no delivery for two seconds, or
when they fail for a fault of our own. It falls behind when more than 200 deliveries wait and it is stuck, or when full
batches have waited for a free call for a second and more waits than it takes in four seconds. Then cursors take over
the deliveries that live readers began, and keep their places in the log. From then on cursors fill the lane: with the
deliveries of half a second, 200 to 3,000, or with 50 while it is stuck. `core/holds.py` has the rules for deliveries
whose hold is over.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, final

from pushrail_stream.core.batch import Batch, CallLimits, Flush, LaneLimits
from pushrail_stream.core.bus_status import BusState
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.core.health import Health
from pushrail_stream.core.pacing import PROBES
from pushrail_stream.core.queue import Queue, holds_commit
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.core.throughput import KNOWN_SECS
from pushrail_stream.core.worker_calls import WorkerCalls

ROOM: Final = 200
"""Deliveries that may wait at any speed of the destination. To copy one costs as much CPU as to read about 30 records,
so copies are cheaper below this number (README.md, "Cursors")."""
PRESSED_ROOM: Final = 50
"""The same while the worker needs room. Cursors leave as many in a stuck lane, so fewer would free nothing."""
_BEHIND_CALL_SECS: Final = 0.1
"""Seconds that a first entry waits at most for the end of a call in flight, with a ``flushMs`` of 0. A call that hangs
then makes it no later than the default of ``flushMs`` would."""
_GRACE_SECS: Final = 2.0
"""Seconds of calls without a delivery after which a destination is silent. A call may take a second."""
_MOVE_SECS: Final = 0.3
"""Seconds between two times at which a destination's deliveries move to cursors: each looks at the whole lane."""
_FULL_SECS: Final = 1.0
"""Seconds for which full batches wait for a free call before it is known how much the destination takes. Its rate
before shows only how fast its events came. With 0.3, cursors opened for a tenth of 50 busy destinations whenever a
worker began."""
_BEHIND_SECS: Final = 4.0
"""A destination is behind when more deliveries wait than it takes in this number of seconds, or in half of the hold if
that is less. With two seconds, cursors opened for one customer whose bus takes all that a worker can send: the worker's
20,000 events were more than that, and all others were read twice, for 40 % more CPU."""
_FAR_SECS: Final = 1.0
"""The same in a worker that needs room, when all calls that the destination allows are in flight: its bus is far, and
the worker has time for the events of others. 64 calls at a round trip of 50 ms take 12,000 events a second, and a
worker needs room from 10,000 waiting events on."""
_FILL_SECS: Final = 0.5
"""Seconds of deliveries with which cursors fill a lane. They fill it again when half of these are left."""
_MAX_FILL: Final = 3_000
"""Most deliveries with which cursors fill a lane: about 3 MB of events."""
LEAST_FILL: Final = PRESSED_ROOM
"""Deliveries with which cursors fill a stuck destination's lane: a few calls, which notice when it is back."""
_KEPT_SECS: Final = 60.0
"""Seconds for which an idle lane remembers its calls, and between two looks at a blocking destination's document."""
_BLOCKING_KEPT_SECS: Final = 2 * PROBES.cap_secs
"""Seconds after the last call for which an idle lane remembers that its destination blocks. After the longest pause
between two probes, an idle lane is no longer needed: the events go to another worker, or there are none."""


@final
class Lane:
    """A destination's deliveries that wait for a call, and the destination's health."""

    __slots__ = (
        "_asked_at", "_bus_limits", "_bus_state", "_called_at", "_full_since", "_limits", "_retry",
        "_total_before_full", "_widest", "call_limits", "deliveries", "destination", "has_cursor", "health",
        "in_flight", "moved_at",
    )  # fmt: skip

    def __init__(
        self,
        destination: Destination,
        limits: LaneLimits,
        bus_limits: CallLimits,
        retry: RetryPolicy,
        calls: WorkerCalls,
    ) -> None:
        self.destination = destination
        self.in_flight = 0
        """Batches taken and not yet finished."""
        self._bus_state: BusState = "open"
        self._bus_limits = self._widest = bus_limits
        self.call_limits = limits.call.within(bus_limits)
        """Limits on a batch, the stricter of ours and the bus's."""
        self.health = Health(destination, retry, calls)
        self._limits = limits
        self._retry = retry
        self.deliveries = Queue()
        """The deliveries that wait."""
        self._full_since = float("inf")
        """Time since which full batches wait for a free call."""
        self._total_before_full = 0
        """Deliveries that the destination had taken until then."""
        self.moved_at = float("-inf")
        """Time at which deliveries last moved to cursors."""
        self.has_cursor = False
        """Whether cursors have had deliveries here."""
        self._called_at = float("-inf")
        self._asked_at = float("-inf")
        """Time of the first call after the last delivery."""

    def __len__(self) -> int:
        """Deliveries that wait, without those that yield to others. Those in flight do not count."""
        return len(self.deliveries)

    @property
    def waiting(self) -> int:
        """All deliveries that wait."""
        return len(self.deliveries) + len(self.deliveries.late)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self.in_flight == 0 and not self.deliveries

    @property
    def is_suspended(self) -> bool:
        """Whether only probes are sent."""
        return self.health.suspension.since is not None

    @property
    def is_shut(self) -> bool:
        """Whether no batch leaves, because it is not known yet whether the bus exists."""
        return self._bus_state == "awaited"

    @property
    def is_gone(self) -> bool:
        """Whether the bus does not exist."""
        return self._bus_state == "missing"

    @property
    def waits_with_others(self) -> bool:
        """Whether it sends little or nothing for a cause that many destinations may share."""
        return self.is_shut or self.health.is_ill_with_others

    @property
    def state(self) -> DestinationState:
        """The worst state that the destination's calls and the checks of its bus have shown."""
        if self.is_gone:
            return "gone"
        if self.health.suspension.is_blocked:
            return "suspended" if self.is_suspended else "blocked"
        if self.health.is_slowed:
            return "slowed"
        return "retrying" if self.deliveries.retries else "ok"

    def adopt(self, destination: Destination) -> None:
        """Follow a changed document from the next batch on. A bus that is reached in another way is probed at once."""
        self.health.adopt(destination, is_same_bus=destination.bus == self.destination.bus)
        self.destination = destination

    @property
    def hold_secs(self) -> float:
        """Longest time for which a delivery may hold back its partition's commit."""
        return self._limits.hold_secs

    @property
    def max_age_secs(self) -> float:
        """Age at which a delivery becomes a dead letter."""
        return self._retry.max_age_secs(self.destination)

    def kept_until(self, now: float) -> float:
        """Time until which an idle lane must be kept for its health; ``now`` when it may be dropped."""
        if not self.health.suspension.is_clear and now < self._called_at + _BLOCKING_KEPT_SECS:
            return now + _KEPT_SECS
        learned_until = now if self.health.is_plain(now) else self._called_at + _KEPT_SECS
        return max(now, learned_until, self.health.next_call_at)

    def refuses(self, now: float) -> bool:
        """Whether new deliveries are refused: the destination is suspended, and no probe is due or in flight."""
        return self.is_suspended and now < self.health.suspension.probe_at

    def adapt(self, bus_limits: CallLimits) -> None:
        """Respect these limits of the bus from the next batch on. An entry that was queued before may exceed them."""
        if bus_limits is not self._bus_limits:
            self._bus_limits, self._widest = bus_limits, self._widest.including(bus_limits)
            self.call_limits = self._limits.call.within(bus_limits)

    def follow_bus(self, bus_state: BusState, now: float) -> None:
        """Send nothing until it is known whether the bus exists. The check counts as a call."""
        if bus_state == "awaited" and not self.is_shut:
            self._note_asked(now)
        self._bus_state = bus_state

    def is_silent(self, now: float) -> bool:
        """Whether calls have been made for a while without a delivery."""
        if self.in_flight == 0 and not self.is_shut and self._asked_at <= self.health.throughput.last:
            return False
        return now - max(self._asked_at, self.health.throughput.last) >= _GRACE_SECS

    def oldest_secs(self, now: float) -> float:
        """Seconds for which the oldest waiting delivery has been here; 0 when none waits. Looks at every retry."""
        fresh, retries = self.deliveries.fresh, self.deliveries.retries
        offered = [delivery.offered_at for _, _, delivery in retries]
        offered += [waiting[0].offered_at for waiting in (fresh, self.deliveries.late) if waiting]
        return now - min(offered, default=now)

    def is_stuck(self, now: float) -> bool:
        """Whether calls bring no delivery at present: a further call would fare no better."""
        return self.health.is_ill or self.is_suspended or self.is_silent(now)

    def offer(self, deliveries: Sequence[Delivery], now: float) -> bool:
        """Queue deliveries. Returns whether `falls_behind`, `Queue.overdue` and `take` must be called now.

        They must when these are the first to wait, complete a batch, or are too many.
        """
        hold_until = now + self._limits.hold_secs
        for delivery in deliveries:
            delivery.offered_at = now
            if delivery.pending.owner.rereads:
                delivery.hold_until, self.has_cursor = math.inf, True
            else:
                delivery.hold_until = hold_until
        (max_entries, max_bytes), queue = self.call_limits, self.deliveries
        waited, bytes_waited = len(queue.fresh), queue.fresh_bytes
        queue.add(deliveries)
        waiting = waited + len(deliveries)
        return (
            waited == 0
            or waiting // max_entries > waited // max_entries
            or queue.fresh_bytes // max_bytes > bytes_waited // max_bytes
            or (waiting > ROOM and self.falls_behind(now))
        )

    def falls_behind(self, now: float, room: int = ROOM) -> bool:
        """Whether the deliveries that live readers began belong on cursors. At most ``room`` may wait at any speed."""
        waiting = len(self)
        if waiting <= room or now - self.moved_at < _MOVE_SECS:
            return False
        if self.is_stuck(now):
            return True
        rate = self._rate_when_full(now)
        is_in_the_way = room < ROOM and self.health.window.is_grown_to_limit
        behind_secs = _FAR_SECS if is_in_the_way else min(_BEHIND_SECS, self._limits.hold_secs / 2)
        return rate is not None and waiting > behind_secs * rate

    def _rate_when_full(self, now: float) -> float | None:
        """Deliveries a second that the destination takes while full batches wait; None while that is unknown.

        The rate before shows only how fast events came. A destination without a delivery may still have to sign in.
        """
        throughput = self.health.throughput
        secs = min(now - self._full_since, throughput.age_secs(now))
        if secs >= KNOWN_SECS:
            return throughput.per_second(now)
        return None if secs < _FULL_SECS else (throughput.total - self._total_before_full) / secs

    def fill(self, now: float) -> int:
        """Deliveries up to which cursors fill the lane."""
        if self.is_stuck(now):
            return LEAST_FILL
        return min(max(ROOM, int(_FILL_SECS * self.health.throughput.per_second(now))), _MAX_FILL)

    def retry(self, delivery: Delivery, at: float) -> None:
        """Queue a delivery again, to be sent at ``at`` or later."""
        self.deliveries.add_retry(delivery, at)

    def retry_now(self, now: float) -> None:
        """Let no retry wait, and probe at once: an operator says that the destination is back."""
        self.deliveries.make_due(now)
        self.health.call_now()

    def has_retry_room(self, now: float) -> bool:
        """Whether a delivery from a retry topic may come ahead of its time. Cursors leave room for a batch of them."""
        fresh, room = self.deliveries.fresh, ROOM
        if fresh and not holds_commit(fresh[0]):
            room = max(room, self.fill(now) + self.call_limits.max_entries)
        return self._bus_state == "open" and not self.is_suspended and len(self) < room

    def take(self, now: float) -> Batch | None:
        """The next batch, which is in flight until `finish`; None when none may leave yet."""
        if not self.deliveries:
            self._full_since = float("inf")
            return None
        if self.is_shut or self.in_flight >= self.health.max_calls or now < self.health.next_call_at:
            if not self._is_full:
                self._full_since = float("inf")
            elif self._full_since == float("inf"):
                self._full_since, self._total_before_full = now, self.health.throughput.total
            if self._is_full:
                self.health.note_wait(self.in_flight)
            return None
        flush = self._ripe(now)
        if flush is None:
            self._full_since = float("inf")
            return None
        limits = self.call_limits._replace(max_entries=1) if self.is_suspended else self.call_limits
        picked = self.deliveries.pick(limits, now)
        self.in_flight += 1
        self._called_at = now
        self._note_asked(now)
        self.health.begin_call(now)
        return Batch(self.destination, tuple(picked), self._widest, flush)

    def finish(self) -> None:
        """Note that a batch has its outcomes. To finish more batches than were taken is a bug and raises."""
        if self.in_flight == 0:
            raise RuntimeError(f"lane {self.destination.id} finished a batch it never took")
        self.in_flight -= 1
        self.health.end_call()

    def spare(self, now: float) -> list[Delivery]:
        """Take out the deliveries that wait for a silent destination and hold back commits, because room is needed.

        From now on the destination gets one call at a time until a call delivers. While no call is in flight, the
        deliveries that wait for their first call stay.
        """
        if not self.is_silent(now):
            return []
        self.health.is_curbed = True
        if self.in_flight or self.is_shut:
            return self.deliveries.drop(holds_commit)
        return self.deliveries.drop_retries(holds_commit)

    def send_at(self) -> float:
        """Time at which `take` has a batch, unless a delivery is offered or a batch finishes before; else infinity."""
        if self.is_shut or self.in_flight >= self.health.max_calls or not self.deliveries:
            return float("inf")
        fresh, retries = self.deliveries.fresh, self.deliveries.retries
        retry_at = retries[0][0] if retries else float("inf")
        if self._is_probing_again:
            return max(retry_at, self.health.next_call_at)
        if self._is_full or self.deliveries.late:
            return self.health.next_call_at
        flush_at = fresh[0].offered_at + self._flush_secs if fresh else float("inf")
        return max(min(flush_at, retry_at), self.health.next_call_at)

    @property
    def _is_probing_again(self) -> bool:
        """Whether a failed probe waits for its retry. Meanwhile no other delivery probes."""
        return self.is_suspended and bool(self.deliveries.retries)

    @property
    def _is_full(self) -> bool:
        limits, queue = self.call_limits, self.deliveries
        return len(queue.fresh) >= limits.max_entries or queue.fresh_bytes >= limits.max_bytes

    @property
    def _flush_secs(self) -> float:
        """Seconds that a first entry waits for others. It must not wait until its hold is over."""
        flush_ms = self.destination.limits.flush_ms
        if flush_ms == 0:
            return _BEHIND_CALL_SECS if self.in_flight else 0.0
        return min(flush_ms / 1000, self._limits.hold_secs / 2)

    def _ripe(self, now: float) -> Flush | None:
        """The reason for a batch to leave now; None when there is none."""
        fresh, retries = self.deliveries.fresh, self.deliveries.retries
        if self._is_probing_again:
            return "retry" if retries[0][0] <= now else None
        if len(fresh) >= self.call_limits.max_entries:
            return "entries"
        if self.deliveries.fresh_bytes >= self.call_limits.max_bytes:
            return "bytes"
        if retries and retries[0][0] <= now:
            return "retry"
        is_time = bool(fresh) and fresh[0].offered_at + self._flush_secs <= now
        return "time" if is_time or self.deliveries.late else None

    def _note_asked(self, now: float) -> None:
        if self._asked_at <= self.health.throughput.last:
            self._asked_at = now
