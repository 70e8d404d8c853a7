"""Sweeps: inflate a guest's balloon over unused memory, and deflate it at once.

The host gets memory that the guest has used and freed. The guest lacks headroom for a second or two.
"""
