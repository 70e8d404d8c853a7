"""The conformance kit as a class of tests, one for each check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mom_core import Hypervisor, Severity, Value
from mom_devkit.conformance import CHECKS, examined, run_check
from mom_devkit.hypervisors import FakeHypervisor


class ConformanceTests:
    """Derive from this, name the plugin, and pytest runs every check of the kit as a test of its own.

    ::

        class TestConformance(ConformanceTests):
            plugin = SwappinessPlugin
            host = {"proc/sys/vm/swappiness": "60\\n"}

    `plugin_name` is its name in YAML, otherwise that of its entry point; `settings`, what YAML would say, and checked as YAML is; `host`,
    the host's files by path, or a folder with them, which is copied: without it, a copy of this host's usual files of /proc and /sys;
    `values`, values to try on its controls, by control, where bounds and present value do not tell what makes sense; `may_touch`, that its
    own hypervisor's guests are a test's, and may be changed, and that it may listen where its settings say. `skipped` maps checks that make
    no sense for this plugin to the reason.
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
    def test_it_conforms(self, check: str, mom_usual_host: Path) -> None:
        """One check of the kit."""
        if not isinstance(getattr(self, "plugin", None), type):
            pytest.fail(f"{type(self).__name__} does not name the plugin: `plugin` must be its class", pytrace=False)
        if check in self.skipped:
            pytest.skip(self.skipped[check])
        host = mom_usual_host if self.host is None else self.host
        given: dict[str, Any] = {name: getattr(self, name) for name in ("settings", "values", "may_touch", "hypervisor")}
        with examined(self.plugin, name=self.plugin_name, host=host, **given) as subject:
            findings = run_check(subject, check)
        for finding in findings:
            print(f"{finding.severity}: {finding.message} ({finding.cure})")  # noqa: T201  # pytest shows it with a failure, or with -rP
        wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
        assert not wrong, "; ".join(f"{finding.message} (cure: {finding.cure})" for finding in wrong)  # noqa: S101  # this is a test
