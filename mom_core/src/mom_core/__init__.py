"""mom: a memory overcommitment manager for KVM hosts, as a plugin framework.

These names are the contract with plugins, which import nothing else of `mom_core` (tests: also `mom_core.testing`). New names go into
`__init__.pyi`. Each is imported on first use, so that small commands stay fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
