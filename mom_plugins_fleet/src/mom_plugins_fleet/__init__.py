"""Many hosts for mom: policies by group, the state of all hosts, and hosts that are drained."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
