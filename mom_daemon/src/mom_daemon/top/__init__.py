"""Live lists in a terminal, such as `mom top`: the terminal, its keys, and one list of rows."""
