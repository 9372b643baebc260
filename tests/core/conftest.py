"""Hypothesis without deadlines, because a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")
