"""Stories that run on the simulated Kafka and on a real one: what a client observes must be the same."""
