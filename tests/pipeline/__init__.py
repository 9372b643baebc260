"""The pipeline in virtual time: records go in, and calls, dead letters and commits come out."""
