"""A flight recorder for mom, and what is made of its recordings: replay, pictures, advice."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
