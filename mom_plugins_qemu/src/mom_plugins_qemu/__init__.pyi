from .plugin import QemuPlugin as QemuPlugin
