"""A real Apache Kafka broker to test against, and the choice of where it comes from."""
