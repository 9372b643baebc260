"""Kafka: only this room speaks to the broker. One thread owns the consumer, and no other touches it."""
