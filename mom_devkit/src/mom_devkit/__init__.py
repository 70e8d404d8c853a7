"""For authors of plugins: hosts of files, a fake hypervisor, engines for tests, the conformance kit, and two verbs.

Names are imported at first use: pytest loads this package everywhere, and must stay fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
