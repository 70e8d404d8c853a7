"""What plugins whose guests run under libvirt have in common: connections, guests, statistics, balloons, limits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
