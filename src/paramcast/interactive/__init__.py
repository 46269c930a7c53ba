"""Comparisons from Python, in a script or a notebook: `paramcast.pilot` and what it returns."""
