"""Export of a recording as tables."""
