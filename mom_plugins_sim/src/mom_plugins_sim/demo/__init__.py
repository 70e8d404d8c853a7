"""`mom demo`: `story` plays a simulated host with and without mom, `summary` counts what happens, `view` draws it, `command` shows it."""
