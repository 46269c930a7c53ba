"""One training run: the methods, the loop, what is measured."""
