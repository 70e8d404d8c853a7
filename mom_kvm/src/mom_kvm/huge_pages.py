"""Transparent huge pages of the host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mom_kvm.kernel_files import read_kernel_file

NEVER: Final = "never"

_MODE: Final = re.compile(rb"\[([a-z]{1,16})\]")


def mode_of(root: Path) -> str:
    """Return `always`, `madvise` or `never`; an empty string if unknown.

    :param root: folder that contains /sys
    """
    chosen = _MODE.search(read_kernel_file(f"{root}/sys/kernel/mm/transparent_hugepage/enabled", 64))
    return chosen[1].decode() if chosen else ""
