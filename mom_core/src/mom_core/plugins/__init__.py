"""Which plugins there are, how their hooks are registered, and how they are called."""
