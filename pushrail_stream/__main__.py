"""``python -m pushrail_stream``: the same as the console script."""

from __future__ import annotations

from pushrail_stream.cli import main

if __name__ == "__main__":
    main()
