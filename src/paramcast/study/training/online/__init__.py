"""Runs on streams: arrival of the examples, detection of drift, and what is measured."""
