"""Whole workers, from a Kafka topic to the fault-injecting bus."""
