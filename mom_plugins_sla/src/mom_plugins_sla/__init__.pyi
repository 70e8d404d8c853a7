from .eviction.plugin import EvictionPlugin as EvictionPlugin
from .plugin import SlaPlugin as SlaPlugin
