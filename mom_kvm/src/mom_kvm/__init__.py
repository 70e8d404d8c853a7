"""What plugins are built with, and the core itself does not need. A library for plugins and verbs, and no plugin itself.

Capabilities of hypervisors; controls that are one file or call, and those that settings ask for; files of the kernel; sockets; calls that
may have to be abandoned; what plugins offer each other (services); what a plugin says in `mom status`, `mom guests` and `mom explain`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
