"""Export of a recording as tables for other tools."""
