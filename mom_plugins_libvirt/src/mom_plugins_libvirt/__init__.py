"""The plugins `libvirt` and `nova`, and a library for plugins with many libvirts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
