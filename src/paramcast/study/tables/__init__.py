"""Judge results that were made anywhere: a table of values, one row per training."""
