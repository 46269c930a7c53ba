"""Where the data of the built-in tasks lie, and how their files are read."""
