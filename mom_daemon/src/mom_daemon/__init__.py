"""mom as a program: the frame of the command `mom`, `mom run` and `mom restore`, the log, and what systemd and the status file are told.

What is named here is public: for verbs of other distributions, and for programs that are such a daemon with a command line of their own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
