"""Pure domain rules: no I/O, no clock, no logging.

Time and jitter are arguments. The only library is orjson, a pure function from bytes to values. An invalid value cannot
be constructed; an illegal step raises and changes nothing.
"""
