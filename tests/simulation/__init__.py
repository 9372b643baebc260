"""Whole fleets in virtual time: the real worker, in a simulated world of hosts, Kafka and AWS."""
