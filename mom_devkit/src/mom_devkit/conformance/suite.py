"""The conformance kit as a class of tests, one for each check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from mom_core import Hypervisor, Severity, Value
from mom_devkit.conformance import CHECKS, run_check, subject_of
from mom_devkit.hypervisors import FakeHypervisor


class ConformanceTests:
    """Derive from this, name the plugin, and pytest runs every check of the kit as a test of its own.

    ::

        class TestConformance(ConformanceTests):
            plugin = SwappinessPlugin
            host = {"proc/sys/vm/swappiness": "60\\n"}

    What can be set is what `mom_devkit.check_plugin` takes; `skipped` maps checks that make no sense for this plugin to the reason.
    """

    plugin: ClassVar[type]
    plugin_name: ClassVar[str] = ""
    settings: ClassVar[Mapping[str, object]] = {}
    host: ClassVar[Mapping[str, str] | Path | None] = None
    values: ClassVar[Mapping[str, Sequence[Value]]] = {}
    may_touch: ClassVar[bool] = False
    skipped: ClassVar[Mapping[str, str]] = {}

    def hypervisor(self) -> Hypervisor:
        """Makes the hypervisor for plugins that bring none."""
        return FakeHypervisor()

    @pytest.mark.parametrize("check", CHECKS)
    def test_it_conforms(self, check: str, tmp_path: Path, mom_usual_host: Path) -> None:
        """One check of the kit."""
        if check in self.skipped:
            pytest.skip(self.skipped[check])
        subject = subject_of(
            self.plugin,
            tmp_path,
            self.plugin_name,
            self.settings,
            mom_usual_host if self.host is None else self.host,
            self.hypervisor,
            self.values,
            may_touch=self.may_touch,
        )
        findings = run_check(subject, check)
        for finding in findings:
            print(f"{finding.severity}: {finding.message} ({finding.cure})")  # noqa: T201  # pytest shows it with a failure, or with -rP
        wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
        assert not wrong, "; ".join(f"{finding.message} (cure: {finding.cure})" for finding in wrong)  # noqa: S101  # this is a test
