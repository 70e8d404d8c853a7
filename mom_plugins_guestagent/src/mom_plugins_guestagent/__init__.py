"""Statistics from inside the guests. The module `guestd` also runs alone, in guests that have only Python."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
