"""Monitors of guests that are none stand in mom_plugins_qemu/tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "mom_plugins_qemu" / "tests"))
