"""The producers' front door: events posted over HTTP, checked, and written to Kafka."""
