"""The squeeze's modules stand in benchmarks/squeeze."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "squeeze"))
sys.path.insert(0, str(ROOT / "tests" / "real"))
