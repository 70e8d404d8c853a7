"""Guests that stop or leave when the host stays full: what may be done to them, in which order, and how it is undone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
