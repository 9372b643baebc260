"""The embedded world around the app: a broker, a bus that answers as AWS does and fails on demand, a demo.

The room's rule: it may use the libraries of the adapters' rooms; only the command line, tests and benchmarks import it.
"""
