"""Coordinator of the fleet: chooses destinations for guests."""
