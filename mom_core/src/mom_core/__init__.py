"""mom: a memory overcommitment manager for KVM hosts.

Plugins import only the names in `__init__.pyi`, and their tests also `mom_core.testing`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
