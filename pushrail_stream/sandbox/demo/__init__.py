"""The demo: the real worker between an embedded Kafka and a stand-in for AWS, on this machine alone, and its accounts.

The room's rule: everything here plays somebody else - the vendor who produces, the customers who receive, AWS - and
checks from their side; the worker in the middle is the one that `pushrail-stream run` runs. Nothing leaves 127.0.0.1.
"""
