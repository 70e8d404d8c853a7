"""For authors of plugins: hosts of files, a hypervisor of memory, engines for tests, the conformance kit, and two verbs.

Names are imported when they are first used: pytest loads this package wherever it is installed, and must not pay for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
