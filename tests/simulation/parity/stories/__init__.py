"""All stories."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.simulation.parity.stories.registry import STORIES, Story

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["STORIES", "Story"]
