from .plugin import QemuPlugin as QemuPlugin

__version__: str
