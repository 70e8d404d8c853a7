"""mom: a memory overcommitment manager for KVM hosts.

Plugins import only these names (`__init__.pyi`), and tests also `mom_core.testing`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
