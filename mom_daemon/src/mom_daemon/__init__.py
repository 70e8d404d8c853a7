"""mom as a daemon: `mom run` and `mom restore`, its log, and what it tells systemd and the status file.

What is named here is public, for programs that are such a daemon with a command line of their own.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
