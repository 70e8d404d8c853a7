"""Configurations of other programs, turned into mom's: texts in, a configuration out, with what became of each setting."""
