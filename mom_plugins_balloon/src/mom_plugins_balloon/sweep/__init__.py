"""Sweeps: a sweep inflates a guest's balloon over memory that the guest does not use, and deflates it at once.

The host gets back the memory that the guest has used and freed. The guest keeps its size, and lacks headroom for a second or two.
"""
