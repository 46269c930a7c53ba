"""Pilots and studies while they run: what the store holds, and what is told of runs in progress.

Reading never waits for a run and changes nothing; torch is not imported.
"""
