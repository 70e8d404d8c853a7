"""Replay: evaluate recorded cycles again, with the same or other policies."""
