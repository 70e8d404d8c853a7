"""Tools for authors of plugins: fake hypervisors, engines for tests, and the conformance kit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
