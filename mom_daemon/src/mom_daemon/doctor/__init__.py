"""`mom doctor`: faults of this host, each with its fix."""
