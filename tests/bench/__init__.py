"""Benchmarks of the whole worker: real Kafka where there is one, the bus in another process over TLS, CPU time."""
