"""What is trained: a task, its data and networks, and where tasks come from."""
