"""mom: a memory overcommitment manager for KVM hosts, as a plugin framework.

These names are the contract: plugins import nothing else of `mom_core`, except `mom_core.testing` in tests. Add names to `__init__.pyi`;
each is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
