"""What one plugin offers to others through `mom_services`, or to verbs: the protocols, and what passes through them."""
