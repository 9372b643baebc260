"""The demo: the real worker between an embedded Kafka and the sandbox's own bus, on this machine alone.

The room's rule: everything here plays another party - the vendor who produces, the customers who receive, AWS - and
checks from its side. The worker in the middle is the one that `pushrail-stream run` runs. Nothing leaves 127.0.0.1.
"""
