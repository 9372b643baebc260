"""Pushrail Stream: canonical events from Kafka to every customer's own Amazon EventBridge bus."""
