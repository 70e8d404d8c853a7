"""Subcommands, and the client of the control socket."""
