"""Replay: recorded cycles evaluated again, with the same policies or with others."""
