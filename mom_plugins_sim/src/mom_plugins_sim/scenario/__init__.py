"""Scenarios: simulated hosts in YAML, with guests that come and go, and faults."""
