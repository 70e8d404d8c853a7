"""Constant that routes and subcommands share, because subcommands import no server."""

from typing import Final

MOST_ITEMS: Final = 1000
