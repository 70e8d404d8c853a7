"""Scenarios: simulated hosts in YAML, with guests that arrive and depart, and with faults."""
