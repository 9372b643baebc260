"""HTML pages for people. They run no scripts and load nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""``Content-Security-Policy`` of each page."""
_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem }
pre { background: #8882; padding: 1rem; overflow-x: auto } code { font-family: ui-monospace, monospace }
section { overflow-x: auto } table { border-collapse: collapse }
td, th { text-align: left; padding: .2rem 1.4rem .2rem 0; border-bottom: 1px solid #e2e2e2; vertical-align: top }
td, th { white-space: nowrap } td.m { white-space: normal; overflow-wrap: anywhere; min-width: 18rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } th { font-weight: 600; color: #555 }
.badge { display: inline-block; padding: .05rem .5rem; border-radius: .6rem; background: #ddd }
.ok { background: #d8f0dc } .bad { background: #f8d4d0 } .warn { background: #fbeac2 } .dim { color: #777 }
@media (prefers-color-scheme: dark) {
body { background: #16181b; color: #e6e6e6 } td, th { border-color: #33363b } th { color: #aaa } .dim { color: #999 }
.badge { background: #444 } .ok { background: #1f4d2a } .bad { background: #6b2620 } .warn { background: #5e4a12 } }
"""


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
