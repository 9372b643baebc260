"""A simulated Kafka: brokers with their logs, the network before them, and clients like librdkafka's."""
