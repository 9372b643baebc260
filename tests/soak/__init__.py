"""The soak: whether a worker's memory grows with what comes and goes."""
