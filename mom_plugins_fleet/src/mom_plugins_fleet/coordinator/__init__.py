"""Coordinator of the fleet."""
