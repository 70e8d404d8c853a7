"""The common part of all hypervisors of QEMU guests, however they reach them. A library for plugins, and no plugin itself.

Their fields; what is believed of what guests say; what the host sees of their processes; the watch for those in need.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
