from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.kafka.assignor import Place, share_out

PARTITIONS: Sequence[Place] = [(topic, number) for topic in ("events", "retry") for number in range(5)]


@given(st.lists(st.integers(-1, 4), min_size=len(PARTITIONS), max_size=len(PARTITIONS)), st.integers(1, 5))
def test_shares_are_even_and_complete(owners: list[int], count: int) -> None:
    members = {f"m{number}": ("events", "retry") for number in range(count)}
    owned = {name: [p for p, owner in zip(PARTITIONS, owners, strict=True) if f"m{owner}" == name] for name in members}
    shares = share_out(PARTITIONS, members, owned)
    sizes = [len(share) for share in shares.values()]
    assert sorted(place for share in shares.values() for place in share) == sorted(PARTITIONS)
    assert max(sizes) - min(sizes) <= 1
    lost = sum(len(set(owned[name]) - set(shares[name])) for name in members)
    surplus = sum(max(0, len(owned[name]) - len(shares[name])) for name in members)
    assert lost == surplus, "nobody gives more away than what is too much"


def test_a_partition_goes_to_those_who_read_its_topic() -> None:
    shares = share_out(PARTITIONS, {"a": ("events",), "b": ("retry",), "c": ("retry",)}, {})
    assert {topic for topic, _ in shares["a"]} == {"events"}
    assert sorted(map(len, shares.values())) == [2, 3, 5]


def test_nobody_reads_an_unwanted_topic() -> None:
    assert share_out(PARTITIONS, {"a": ("other",)}, {}) == {"a": []}
