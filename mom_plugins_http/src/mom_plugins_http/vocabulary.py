"""Constant for routes and subcommands, which import no server."""

from typing import Final

MOST_ITEMS: Final = 1000
