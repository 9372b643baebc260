"""The pipeline: what happens to a record, step by step. Async, without any library: the world comes in through ports.

`consume` is the spine, `deliver` drives the lanes, `dead_letters` writes what is given up on, `in_flight` keeps the
tasks. Every task belongs to one task group: a bug ends the worker loudly, and what was not settled is read again.
"""
