from .plugin import EvictionPlugin as EvictionPlugin
