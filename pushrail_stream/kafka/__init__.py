"""Kafka: only this room speaks to the broker. A group member's consumer has a thread, and no other thread calls it."""
