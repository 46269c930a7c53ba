"""From outcomes to a verdict: statistics, learning rates, rules."""
