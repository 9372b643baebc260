"""Tests of the fault-injecting bus."""
