"""Tests of policies, written in YAML: given fields, expected decisions. Running them changes nothing on any host."""

from __future__ import annotations

from mom_plugins_policy.tools.cases.loader import cases_of, read_cases
from mom_plugins_policy.tools.cases.model import ExpectedError, Mismatch, PolicyTest, PolicyTestResult
from mom_plugins_policy.tools.cases.runner import run_case

__all__ = ["ExpectedError", "Mismatch", "PolicyTest", "PolicyTestResult", "cases_of", "read_cases", "run_case"]
