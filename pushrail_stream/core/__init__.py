"""The core: what is true whatever carries it. Pure functions and values: no loop, no clock, no I/O, no logging.

Time and jitter come in as arguments. The only library here is orjson, a pure function from bytes to values.
An invalid value cannot be constructed; an illegal step raises and changes nothing.
"""
