"""Live lists in a terminal, such as `mom top`."""
