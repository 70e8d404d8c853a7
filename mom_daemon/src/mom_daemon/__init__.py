"""The program `mom`: the frame of its command line, `mom run` and `mom restore`, and the verbs that look.

The names here are public: for verbs and importers of plugins, and for daemons with a command line of their own. Each is
imported at its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
