"""What happens while a wrapper runs: the members, the cycle, its events, its saved form."""
