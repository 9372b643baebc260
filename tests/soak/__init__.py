"""The soak shows whether a worker's memory grows with destinations that come and go."""
