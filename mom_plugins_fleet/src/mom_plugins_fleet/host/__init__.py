"""Host side of the fleet."""
