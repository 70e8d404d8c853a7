"""Guests on libvirt for mom: statistics, balloons."""

__version__ = "0.1.0"
