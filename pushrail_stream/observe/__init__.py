"""Observers: what people and machines see of the pipeline. They get signals and cannot change the course."""
