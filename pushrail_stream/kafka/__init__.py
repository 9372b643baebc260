"""Kafka: the only room that speaks to the broker. One thread owns the consumer; nobody else touches it."""
