from .plugin import SimPlugin as SimPlugin
