"""Guests that stop or leave when the host stays full: what may be done to them, in which order, and how it is undone."""

from mom_plugins_eviction.plugin import EvictionPlugin as EvictionPlugin
