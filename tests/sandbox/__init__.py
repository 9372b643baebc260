"""Tests of the embedded world around the app."""
