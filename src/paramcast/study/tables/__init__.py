"""Judge results from anywhere: a table of values, one row per training."""
