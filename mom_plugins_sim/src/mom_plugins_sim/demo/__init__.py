"""`mom demo`: `story` plays a simulated host with a real engine, `summary` counts what happened, `view` shows it, `command` is the verb."""
