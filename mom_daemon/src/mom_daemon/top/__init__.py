"""Live lists in a terminal, such as `mom top`.

Plugins may import this module's names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
