"""Chaos: real workers on a real Kafka against a bus that fails at random, while processes are killed and stopped.

At the end every event must be where it belongs, and every duplicate must have a reason (`duplicates` states the bound).
"""
