"""The verbs that people look with: `mom status`, `guests`, `explain`, `doctor`, `fields`, `config` and `plugin`.

What is named here is public: plugins import it in their own verbs, and where they show what these verbs show; importers of other programs'
configurations return what stands here. A host that only runs mom needs none of it. Names are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
