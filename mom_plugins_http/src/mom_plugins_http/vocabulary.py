"""What routes and verbs both say, without what the server is made of: verbs must start fast."""

from typing import Final

MOST_ITEMS: Final = 1000
"""Items of a page."""
