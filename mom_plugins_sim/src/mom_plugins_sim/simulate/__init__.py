"""`mom simulate`: a scenario under a policy, as fast as it can, and what came of it."""
