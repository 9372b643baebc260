"""HTTP: what operators and their tools ask. The room knows nothing of Kafka or AWS; it is given what to answer."""
