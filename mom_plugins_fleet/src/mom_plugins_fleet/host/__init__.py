"""A host's side of the fleet: what it follows and reports."""
