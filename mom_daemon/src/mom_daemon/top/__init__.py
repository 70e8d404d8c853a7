"""What verbs share that watch something live in a terminal, such as `mom top`: the terminal, its keys, and one list of rows."""
