"""Conformance tests of the evaluators."""

from mom_devkit import ConformanceTests
from mom_plugins_policy import PolicyPlugin
from mom_plugins_policy.python import PypolicyPlugin


class TestPolicyConformance(ConformanceTests):
    plugin = PolicyPlugin


class TestPypolicyConformance(ConformanceTests):
    plugin = PypolicyPlugin
