"""The benchmarks that need real guests stand in folders of their own; what they share with tests of real guests stands in tests/real."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.extend(str(ROOT / "benchmarks" / room) for room in ("ksm", "reaction", "reporting", "simulator"))
sys.path.append(str(ROOT / "tests" / "real"))
