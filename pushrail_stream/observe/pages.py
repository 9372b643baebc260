"""HTML pages for people. They run no scripts and load nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Final

from pushrail_stream.core.text import format_rfc3339

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""``Content-Security-Policy`` of each page."""
_STYLE: Final = resources.files(__package__).joinpath("pages.css").read_text()
_LONG: Final = 30
"""Characters above which a cell may break its lines, so that five such columns fit a screen of 1,280 pixels."""
_TAG: Final = re.compile(r"<[^>]*>")


def page(title: str, body: str, *, refresh_secs: int | None = None) -> str:
    """A whole page. ``title`` is text and ``body`` is markup; ``refresh_secs``: when the browser loads it again."""
    refresh = "" if refresh_secs is None else f"<meta http-equiv=refresh content={refresh_secs}>"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"{refresh}<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )


def section(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[int] = (),
    prose: int | None = None,
    empty: str = "None.",
) -> str:
    """A table with its title, or with the text ``empty`` when there is nothing to show. As for `table`."""
    return f"<h2>{escape(title)}</h2>" + (table(heads, rows, numbers, prose) if rows else f"<p class=dim>{empty}</p>")


def time(ms: int) -> str:
    """A time in epoch milliseconds, on one line."""
    return f"<time>{format_rfc3339(ms)}</time>"


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), prose: int | None = None
) -> str:
    """A table without its empty columns; nothing without rows. Cells are markup.

    The cells of ``prose``, and long ones, may break their lines. A narrow screen shows each row as a
    list, in which each cell needs its head.
    """
    if not rows:
        return ""
    shown = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    kinds = ["n" if n in numbers else "m" if n == prose else "" for n in shown]
    names = [escape(heads[n]) for n in shown]
    head = "".join(f"<th{_class(kind)}>{name}</th>" for kind, name in zip(kinds, names, strict=True))
    lines = "".join(
        "<tr>" + "".join(_cell(row[n], kind, name) for n, kind, name in zip(shown, kinds, names, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _cell(cell: str, kind: str, name: str) -> str:
    is_long = len(_TAG.sub("", cell)) > _LONG
    return f"<td{_class(kind or 'l' * is_long)} data-h='{name}'>{cell}</td>"


def _class(kind: str) -> str:
    return kind and f" class={kind}"
