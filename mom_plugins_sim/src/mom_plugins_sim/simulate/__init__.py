"""`mom simulate`: run a scenario under a policy."""
