"""Protocols that the rooms above implement, one file for each of their clients, with the values that they exchange."""
