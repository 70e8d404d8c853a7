"""Guests of KubeVirt for mom: one libvirt for each pod."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
