"""The program `mom`: its command line, `mom run` and `mom restore`, and commands that inspect the host.

Plugins may import this module's names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
