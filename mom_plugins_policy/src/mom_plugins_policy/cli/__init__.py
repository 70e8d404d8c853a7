"""Subcommands of `mom policy`."""
