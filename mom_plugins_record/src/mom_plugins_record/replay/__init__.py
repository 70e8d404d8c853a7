"""Replay: recorded cycles evaluated again, by the same policies or by others."""
