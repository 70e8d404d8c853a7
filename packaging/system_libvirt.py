"""Lets mom's own environment import the system's libvirt modules, and nothing else of the system's.

libvirt-python is built for one libvirt. A system's package of mom uses the one that the system has, and corrects, beside its libvirt.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODULES = {"libvirt", "libvirt_lxc", "libvirt_qemu", "libvirtaio", "libvirtmod", "libvirtmod_lxc", "libvirtmod_qemu"}
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
FOLDERS = ["/usr/lib/python3/dist-packages", f"/usr/lib64/{_PYTHON}/site-packages", f"/usr/lib/{_PYTHON}/site-packages"]
"""Debian's; Fedora's."""


class SystemLibvirt:
    """Asked for what is found nowhere else."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the system's spec for libvirt's modules."""
        return PathFinder.find_spec(name, FOLDERS) if name in MODULES else None


sys.meta_path.append(SystemLibvirt)
