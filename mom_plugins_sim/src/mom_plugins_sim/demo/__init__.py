"""`mom demo`: `story` plays a simulated host with a real engine, `summary` counts what happened, `view` draws it, `command` shows it all."""
