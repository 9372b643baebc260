"""The way to the buses, against stock, against faults, and on the clock."""
