"""Constant of routes and subcommands, in its own module because subcommands import no server."""

from typing import Final

MOST_ITEMS: Final = 1000
