"""The user's own trainings: a function of one trial, or a command."""
