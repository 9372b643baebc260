"""The way to the customers' buses: PutEvents, signed with each destination's own credentials.

Room's rule: the only importer of aiobotocore and botocore. Whatever AWS or the network does becomes a value of
core/outcome here; nothing is retried, judged or logged here. A destination is only ever called with its own
credentials: the process's standard chain is asked for nothing but calling AssumeRole.
"""
