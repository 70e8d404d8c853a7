from .plugin import LibvirtPlugin as LibvirtPlugin

__version__: str
