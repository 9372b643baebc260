"""The world around the worker on one machine: an embedded broker, a bus that fails on demand, and the demo.

The room's rule: it may use the adapters' libraries; only the command line, tests and benchmarks import it.
"""
