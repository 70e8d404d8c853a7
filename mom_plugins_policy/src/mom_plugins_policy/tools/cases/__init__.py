"""Tests of policies, written in YAML: given fields, expected decisions. Running them changes nothing on any host."""

from mom_plugins_policy.tools.cases.loader import PolicyTest, cases_of, read_cases
from mom_plugins_policy.tools.cases.runner import Mismatch, run_case

__all__ = ["Mismatch", "PolicyTest", "cases_of", "read_cases", "run_case"]
