"""Days of guests: how much each uses at which time of the day and of the week, learned from its statistics, and what follows from that."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
