"""`mom here`, `mom status` and `mom guests`, and the ways to ask a mom: its socket, its status file, its recording."""
