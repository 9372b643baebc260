"""Builders, worlds, servers and the broker launcher: everything that more than one test file uses."""
