"""`mom demo`: `story` plays a simulated host with and without mom, `summary` sums it up, `view` draws it, `command` shows it."""
