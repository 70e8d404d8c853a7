"""mom: a memory overcommitment manager for KVM hosts, as a plugin framework.

What is named here is the contract; plugins import from here (their tests from `mom_core.testing` too), and from
nowhere else in `mom_core`. A new name is added to `__init__.pyi`.
Names are imported when they are first used, so that a small command does not pay for a large one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
