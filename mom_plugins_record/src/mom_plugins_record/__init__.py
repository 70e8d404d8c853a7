"""mom's flight recorder, with replay, reports, advice and forecasts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
