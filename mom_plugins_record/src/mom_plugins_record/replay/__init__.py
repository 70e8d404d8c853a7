"""Replay: what was recorded, evaluated again, by the same policies or by others."""
