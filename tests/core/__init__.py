"""The core's tests, one file per module: rules as tables, laws with Hypothesis. No loop, no clock, no I/O."""
