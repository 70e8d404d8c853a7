"""Conformance tests of the plugin, also with `mom plugin check`."""

import pytest

from mom_devkit import ConformanceTests, check_plugin
from mom_plugins_http import HttpPlugin


class TestConformance(ConformanceTests):
    plugin = HttpPlugin


@pytest.mark.long
def test_a_mere_check_listens_on_nothing() -> None:
    findings = check_plugin(HttpPlugin, name="http", settings={"socket": "/nowhere/at/all"})
    assert not any("listen" in finding.message for finding in findings)
