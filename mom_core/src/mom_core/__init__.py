"""mom: a memory overcommitment manager for KVM hosts, as a plugin framework.

The names here are the contract. Plugins import nothing else of `mom_core`; their tests also use `mom_core.testing`. Add new names to
`__init__.pyi`. Names are imported on first use, so that small commands stay fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
