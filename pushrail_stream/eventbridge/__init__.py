"""The bus of Amazon EventBridge: entries, limits, calls, credentials, and the meaning of its replies.

This is the only room that imports aiobotocore and botocore. Everything that AWS or the network does becomes a value of
core/outcome here. Nothing is logged here, and only calls to KMS are retried. A call to a destination is only ever
signed with the destination's own credentials. The process's standard chain signs AssumeRole, GetCallerIdentity, calls
to KMS, and calls to partner event sources, which the operator has to allow.
"""
