"""Subcommands of `mom fleet`."""
