from .plugin import LibvirtPlugin as LibvirtPlugin
