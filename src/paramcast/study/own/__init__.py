"""Trainings of the user's: a function of one trial, or a command."""
