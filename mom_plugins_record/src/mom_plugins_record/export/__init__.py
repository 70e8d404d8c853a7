"""A recording as tables that other tools open."""
