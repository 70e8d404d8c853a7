"""Scenarios: hosts that do not exist, written in YAML, with guests that come and go and things that go wrong."""
