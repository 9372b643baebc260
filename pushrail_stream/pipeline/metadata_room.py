"""The room in the metadata of commits, which brokers limit: ``offset.metadata.max.bytes``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from pushrail_stream.core.commit import MIN_METADATA_CHARS, Committable

_MAX_SHORTENINGS: Final = 2
"""Steps by which a commit with cursors can be shortened: without its map, and with its cursors in a snapshot."""


@final
class MetadataRoom:
    """Shortens commits until brokers accept them. Lives on the event loop."""

    def __init__(self) -> None:
        self._has_room_for_places = True
        self._shortenings = 0
        """Steps by which commits are shortened until the broker accepts them."""

    def limit(self, limit: int) -> None:
        """Learn the brokers' limit in bytes, before the first commit."""
        self._has_room_for_places = limit >= MIN_METADATA_CHARS

    def shorten(self, refused: Iterable[Committable]) -> None:
        """Shorten commits, because the broker refused these: the metadata of at least one is too long."""
        self._shortenings = max(self._shortenings, 1 + min(commit.shortenings for commit in refused))

    @property
    def can_name_cursors(self) -> bool:
        """Whether the broker takes metadata that names the place of a snapshot of cursors."""
        return self._has_room_for_places and self._shortenings <= _MAX_SHORTENINGS

    def fitting(self, commit: Committable) -> Committable:
        """The commit, short enough for the broker. Cursors are never left out: the commit is past their events."""
        if self._shortenings == 0:
            return commit
        without_map = commit.without_map()
        if self._shortenings < _MAX_SHORTENINGS:
            return without_map
        shortest = without_map.without_cursors()
        return shortest if self._shortenings == _MAX_SHORTENINGS else shortest.without_metadata()
