"""Host's side of the fleet."""
