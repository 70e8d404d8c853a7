"""The host's side of the fleet."""
