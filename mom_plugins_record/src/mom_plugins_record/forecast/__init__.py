"""Memory that each guest uses by time of day and week, learned from its statistics."""
