"""Let mom's environment import the system's libvirt modules, but no other modules of the system.

libvirt-python is built for one version of libvirt. So mom's packages use the system's libvirt-python, which the system also updates.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODULES = {"libvirt", "libvirt_lxc", "libvirt_qemu", "libvirtaio", "libvirtmod", "libvirtmod_lxc", "libvirtmod_qemu"}
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
FOLDERS = ["/usr/lib/python3/dist-packages", f"/usr/lib64/{_PYTHON}/site-packages", f"/usr/lib/{_PYTHON}/site-packages"]
"""Directories of Debian and Fedora."""


class SystemLibvirt:
    """Finder for modules that no other finder has found."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the system's spec for libvirt's modules."""
        return PathFinder.find_spec(name, FOLDERS) if name in MODULES else None


sys.meta_path.append(SystemLibvirt)
