"""The texts of a partition's cursors, for its commits. Only those of cursors that have changed are made again.

A region that is down may leave thousands of destinations behind, and to make the text of one cursor costs about ten
microseconds of the event loop. Many cursors are therefore kept in blocks, each with a text of its own. A cursor that
opened, or that took over deliveries, is in the next commit: it is the only one that names them. Any other change only
says that less is left to deliver, and waits for its block's turn: after a crash, events of the last commits are
delivered again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, final

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import encode_entries

_FEW: Final = 256
"""Most cursors whose text is made as a whole: about as many as have room in a commit's metadata."""
_BLOCK: Final = 128
"""Cursors of a block. To make its text costs at most 1.5 ms."""
_TURNS: Final = 8
"""Commits within which each block that has changed has its turn. A partition has a commit a second."""


@final
class Budget:
    """Bounds the number of blocks that are made at one time, for the commits of all partitions together."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks
        self.is_exceeded = False
        """Whether a partition has no commit now, because more blocks were due than are left."""


@final
class _Block:
    """Some cursors, and their text."""

    __slots__ = ("is_due", "is_stale", "names", "text")

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        """The cursors' destinations, in order."""
        self.text = ""
        self.is_due = False
        """Whether the next commit needs a new text."""
        self.is_stale = False
        """Whether the text names more than is left to deliver."""


@final
class CursorTexts:
    """The texts of one partition's cursors."""

    __slots__ = ("_block_of", "_blocks")

    def __init__(self) -> None:
        self._blocks = list[_Block]()
        """Those whose texts are the oldest come first."""
        self._block_of = dict[str, _Block]()

    def text(self, cursors: Mapping[str, Cursor], head: int, budget: Budget | None) -> str | None:
        """The cursors for a commit at ``head``; None when the budget does not suffice for those that it must name.

        Without a ``budget``, all of them are up to date.
        """
        if len(cursors) <= _FEW:
            self._blocks.clear()
            self._block_of.clear()
            return encode_entries(cursor.entry() for cursor in cursors.values() if not cursor.is_done(head))
        self._note_changes(cursors)
        due = [block for block in self._blocks if block.is_due]
        stale = [block for block in self._blocks if block.is_stale and not block.is_due]
        if budget is not None:
            stale = stale[: max(1, len(self._blocks) // _TURNS)]
            is_enough, due = len(due) <= budget.left, due[: budget.left]
            budget.left -= len(due)
            budget.is_exceeded = budget.is_exceeded or not is_enough
        self._make([*due, *stale], cursors)
        if budget is not None and not is_enough:
            return None
        return "/".join(block.text for block in self._blocks)

    def _make(self, blocks: Sequence[_Block], cursors: Mapping[str, Cursor]) -> None:
        for block in blocks:
            block.text = encode_entries(cursors[name].entry() for name in block.names)
            block.is_due = block.is_stale = False
        newest = set(map(id, blocks))
        self._blocks = [block for block in self._blocks if block.names and id(block) not in newest]
        self._blocks += [block for block in blocks if block.names]

    def _note_changes(self, cursors: Mapping[str, Cursor]) -> None:
        for name, cursor in cursors.items():
            block = self._block_of.get(name)
            if block is None:
                block = self._block_of[name] = self._open_block()
                block.names[name] = None
                block.is_due = True
            elif cursor.is_needed:
                block.is_due = True
            elif not cursor.is_unchanged:
                block.is_stale = True
        if len(self._block_of) > len(cursors):
            for name in self._block_of.keys() - cursors.keys():
                block = self._block_of.pop(name)
                del block.names[name]
                block.is_stale = True

    def _open_block(self) -> _Block:
        if not self._blocks or len(self._blocks[-1].names) >= _BLOCK:
            self._blocks.append(_Block())
        return self._blocks[-1]
