"""Subcommand `mom advise`."""
