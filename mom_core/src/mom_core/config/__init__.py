"""Configuration: one YAML file, read whole; all its faults are reported at once.

Names are imported on first use: listing a file's plugins needs no validation code.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
