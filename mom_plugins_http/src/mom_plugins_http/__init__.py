"""Control socket of mom: an HTTP/JSON API, policies at run time, events and metrics."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
