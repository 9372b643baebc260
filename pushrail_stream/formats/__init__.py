"""Formats of records beside the canonical event. Each is turned into a canonical event, which has the same rules."""
