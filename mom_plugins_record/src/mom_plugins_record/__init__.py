"""The flight recorder of mom, its replay, reports and advice; and forecasts of what guests use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
