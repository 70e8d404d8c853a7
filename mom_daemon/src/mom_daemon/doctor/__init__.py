"""`mom doctor`: faults of this host, each with a cure."""
