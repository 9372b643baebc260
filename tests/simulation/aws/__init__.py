"""The simulated AWS: accounts, EventBridge, STS and KMS in several regions, over bytes of HTTP/1.1."""
