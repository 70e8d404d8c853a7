"""`mom simulate`: run a scenario under a policy as fast as possible, and show the results."""
