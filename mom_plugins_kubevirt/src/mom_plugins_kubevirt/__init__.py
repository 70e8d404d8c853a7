"""The kubevirt plugin: guests of KubeVirt, each under the libvirt of its own pod."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
