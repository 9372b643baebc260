"""What has become of events: attempts, dead letters and replays, read back from their topics.

The room's rule: records come in, answers come out. It reads no topic and prints nothing; the command line brings it
together with Kafka and with people.
"""
