"""Where the data of the built-in tasks are, and how their files are read."""
