"""What the pages for people share: they run nothing and load nothing, whatever gets into them."""

from __future__ import annotations

from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Their ``Content-Security-Policy``."""
