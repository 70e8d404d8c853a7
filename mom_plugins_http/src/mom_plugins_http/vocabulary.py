"""Constant for routes and verbs. Verbs must start fast, so they import no server."""

from typing import Final

MOST_ITEMS: Final = 1000
"""Items of a list."""
