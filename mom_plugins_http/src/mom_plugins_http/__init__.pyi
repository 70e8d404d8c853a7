from .plugin import HttpPlugin as HttpPlugin
