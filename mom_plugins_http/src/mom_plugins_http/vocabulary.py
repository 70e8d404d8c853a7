"""Constant of routes and subcommands; the latter import no server."""

from typing import Final

MOST_ITEMS: Final = 1000
