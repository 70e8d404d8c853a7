"""The configuration: one YAML file, read whole, with all that is wrong in it said at once.

Names are imported when they are first used: reading which plugins a file enables needs none of what checking it does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
