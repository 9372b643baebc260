"""The queue of a lane: it gives out in time what holds back commits, and what cursors can read again."""

from __future__ import annotations

import math

from pushrail_stream.core.batch import CallLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.queue import Queue, holds_commit
from tests.support.samples import cursors_delivery, delivery


def held(until: float, offset: int = 7) -> Delivery:
    one = delivery(offset=offset)
    one.hold_until = until
    return one


def of_cursor(until: float = math.inf) -> Delivery:
    one = cursors_delivery()
    one.hold_until = until
    return one


def test_no_commit_waits_for_a_cursors_delivery() -> None:
    assert [holds_commit(delivery()), holds_commit(cursors_delivery())] == [True, False]


def test_a_delivery_is_overdue_behind_those_of_cursors() -> None:
    queue, late, later = Queue(), held(10.0), held(10.5)
    for one in (of_cursor(), late, of_cursor(until=9.0), later):
        queue.add([one])
    assert queue.overdue(9.9) == []
    assert queue.overdue(10.0) == [late]
    assert queue.overdue_at() == 10.5
    assert queue.overdue(10.5) == [later]
    assert (len(queue), queue.overdue_at(), queue.overdue(1e9)) == (2, math.inf, [])


def test_a_retry_is_overdue_when_its_hold_is_over() -> None:
    queue, again, newer = Queue(), held(10.0), held(12.0)
    queue.add([newer])
    queue.add_retry(again, 99.0)
    assert queue.overdue_at() == 10.0
    assert queue.overdue(10.0) == [again]
    assert queue.overdue(12.0) == [newer]


def test_overdue_deliveries_are_looked_for_ten_times_a_second() -> None:
    queue = Queue()
    waiting = [held(10 + number / 100) for number in range(30)]
    for one in waiting:
        queue.add([one])
    found, looks, now = list[Delivery](), 0, 0.0
    while queue.overdue_at() < math.inf:
        now = max(now, queue.overdue_at())
        found += queue.overdue(now)
        looks += 1
    assert found == waiting
    assert looks == 4
    assert now < 10.31


def test_only_the_newest_of_cursors_are_trimmed() -> None:
    queue = Queue()
    first, live, second, third = of_cursor(), held(10.0), of_cursor(), of_cursor()
    for one in (first, live, second, third):
        queue.add([one])
    again = of_cursor()
    queue.add_retry(again, 5.0)
    assert queue.trim(2) == [second, third]
    assert queue.waiting() == [first, live, again]
    assert queue.fresh_bytes == 200
    assert queue.trim(0) == [first]


def test_what_waits_for_a_retry_becomes_due() -> None:
    queue, soon, late = Queue(), held(10.0), held(10.0)
    queue.add_retry(late, 8.0)
    queue.add_retry(soon, 1.0)
    queue.make_due(2.0)
    assert [at for at, _, _ in sorted(queue.retries, key=lambda item: item[:2])] == [1.0, 2.0]


def test_late_deliveries_yield_to_newer_ones() -> None:
    queue, limits = Queue(), CallLimits(3, 1_000_000)
    late, fresh = [held(10.0, offset=n) for n in range(20)], [held(30.0, offset=n) for n in range(100, 120)]
    queue.add(late)
    for one in queue.overdue(10.0):
        queue.hold_again(one, 20.0)
    queue.add(fresh)
    assert (len(queue), len(queue.late), queue.overdue_at()) == (20, 20, 20.0)
    picked = [queue.pick(limits, 11.0) for _ in range(8)]
    assert picked == [fresh[:3], fresh[3:6], fresh[6:9], late[:3], fresh[9:12], fresh[12:15], fresh[15:18], late[3:6]]
    assert queue.pick(limits, 11.0) == [*fresh[18:], late[6]], "they get the places that are left"
    assert (queue.fresh_bytes, len(queue), bool(queue)) == (0, 0, True)
    again = held(30.0, offset=200)
    queue.add_retry(again, 12.0)
    assert queue.pick(limits, 12.0) == [again, *late[7:9]]
    assert queue.waiting() == late[9:]
    assert queue.drop_late(lambda one: one is late[9]) == [late[9]]
    assert queue.overdue(20.0) == late[10:]
    assert not queue


def test_a_large_entry_is_left_for_the_next_call() -> None:
    queue, small = Queue(), CallLimits(10, 1)
    late = [held(10.0, offset=n) for n in range(2)]
    for one in late:
        queue.hold_again(one, 20.0)
    assert [queue.pick(small, 11.0) for _ in range(2)] == [late[:1], late[1:]]
