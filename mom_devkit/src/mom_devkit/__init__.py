"""For authors of plugins: a fake hypervisor, engines for tests, the conformance kit, and two commands."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
