"""mom: a memory overcommitment manager for KVM hosts, as a plugin framework.

Plugins import only these names, and tests also `mom_core.testing`. `__init__.pyi` lists the names; each is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
