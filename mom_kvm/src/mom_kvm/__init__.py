"""Library for plugins on KVM hosts; not a plugin itself.

Kernel files and control groups. Statistics of guests, and which of them mom believes. Controls that are one file. Services between plugins.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
