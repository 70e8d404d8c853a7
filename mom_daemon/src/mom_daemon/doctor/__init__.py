"""`mom doctor`: faults of this host, each with the cure."""
