"""The qemu plugin: guests of QEMU without libvirt, also under Proxmox VE."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
