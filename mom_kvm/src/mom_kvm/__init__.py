"""Library for plugins on KVM hosts. It is not a plugin itself."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
