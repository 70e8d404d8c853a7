"""`mom`, `mom status` and `mom guests`, and the sources of their data."""
