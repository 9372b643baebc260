"""HTML pages for people. They run no scripts and load nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""``Content-Security-Policy`` of each page."""
_STYLE: Final = resources.files(__package__).joinpath("pages.css").read_text()


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
) -> str:
    """A table, or that there is nothing to show. Cells are markup; only the column of ``prose`` may break its lines."""
    if not rows:
        return f"<h2>{escape(title)}</h2><p class=dim>None.</p>"
    kind = [" class=n" if n in numbers else " class=m" if n == prose else "" for n in range(len(heads))]
    head = "".join(f"<th{kind[index]}>{escape(name)}</th>" for index, name in enumerate(heads))
    lines = "".join(
        "<tr>" + "".join(f"<td{kind[index]}>{cell}</td>" for index, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<h2>{escape(title)}</h2><section><table><tr>{head}</tr>{lines}</table></section>"
