"""What happens while a wrapper runs: who takes part, the cycle, its events, its saved form."""
