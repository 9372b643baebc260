"""The assignor that both group protocols share: balanced, and each member keeps what it can.

It stands for librdkafka's ``cooperative-sticky`` and for the broker's ``uniform``. Both give members counts that differ
by one at most and move as few partitions as that allows; which partition moves is not promised by either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Place = tuple[str, int]
"""A topic's name and the number of a partition."""


def share_out(
    partitions: Sequence[Place], subscriptions: Mapping[str, Sequence[str]], owned: Mapping[str, Iterable[Place]]
) -> dict[str, list[Place]]:
    """The partitions of each member. ``owned``: those that it has at present."""
    shares: dict[str, list[Place]] = {member: [] for member in sorted(subscriptions)}
    free = dict.fromkeys(partitions)
    for member, share in shares.items():
        kept = [place for place in owned.get(member, ()) if place in free and place[0] in subscriptions[member]]
        for place in sorted(kept):
            del free[place]
            share.append(place)
    for place in free:
        readers = [member for member in shares if place[0] in subscriptions[member]]
        if readers:
            shares[min(readers, key=lambda member: len(shares[member]))].append(place)
    _even_out(shares, subscriptions)
    return {member: sorted(share) for member, share in shares.items()}


def _even_out(shares: dict[str, list[Place]], subscriptions: Mapping[str, Sequence[str]]) -> None:
    """Move partitions from the member with most to the one with fewest, until they differ by one at most."""
    while True:
        for giver in sorted(shares, key=lambda member: -len(shares[member])):
            takers = [m for m in shares if len(shares[m]) < len(shares[giver]) - 1]
            move = next(
                (
                    (place, taker)
                    for taker in sorted(takers, key=lambda member: len(shares[member]))
                    for place in reversed(shares[giver])
                    if place[0] in subscriptions[taker]
                ),
                None,
            )
            if move is not None:
                place, taker = move
                shares[giver].remove(place)
                shares[taker].append(place)
                break
        else:
            return
