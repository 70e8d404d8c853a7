"""Constant for routes and subcommands. Subcommands must start fast, so they import no server."""

from typing import Final

MOST_ITEMS: Final = 1000
"""Maximum number of items in a list."""
