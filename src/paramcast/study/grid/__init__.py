"""Studies: many comparisons as one file, run into one store."""
