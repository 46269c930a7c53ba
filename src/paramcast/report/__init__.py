"""Stored results in, pages and tables out; no torch."""
