"""Guests that leave a full host: the permitted steps, their order, and their undoing."""
