"""Guests that leave a full host: which steps are permitted, their order, and how they are undone."""
