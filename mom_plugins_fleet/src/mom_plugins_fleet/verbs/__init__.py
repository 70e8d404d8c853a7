"""Verbs of `mom fleet`."""
