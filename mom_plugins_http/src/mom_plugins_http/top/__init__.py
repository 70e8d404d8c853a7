"""`mom top`: a running mom, live in a terminal."""
