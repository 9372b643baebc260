"""What the pages for people share: no scripts, nothing loaded from anywhere, light or dark as the reader has it."""

from __future__ import annotations

from html import escape
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The ``Content-Security-Policy`` of every page."""
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #e2e2e2; vertical-align: top }
th { font-weight: 600; color: #555 }
@media (prefers-color-scheme: dark) {
body { background: #16181b; color: #e6e6e6 } td, th { border-color: #33363b } th { color: #aaa } a { color: #8ab4f8 } }
"""


def page(title: str, content: str, *, style: str, head: str = "") -> str:
    """A page; ``title`` is text, ``content`` and ``head`` are markup, ``style`` is what this page has besides."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"{head}<title>{escape(title)}</title><style>{_STYLE}{style}</style>{content}</html>"
    )
