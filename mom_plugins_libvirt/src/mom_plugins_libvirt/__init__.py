"""The libvirt and nova plugins, and a library for plugins that use many libvirt connections."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
