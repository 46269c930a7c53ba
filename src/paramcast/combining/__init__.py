"""Averages and predictions over checkpoints that exist already."""
