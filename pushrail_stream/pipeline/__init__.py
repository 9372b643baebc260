"""A record's way from Kafka to a bus and back to a commit. It is async and reaches the outside world through ports.

`engine` puts the parts together. Every task belongs to one task group, so a bug ends the worker visibly, and Kafka
delivers the unsettled records again.
"""
