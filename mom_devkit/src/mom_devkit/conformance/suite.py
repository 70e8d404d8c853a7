"""Conformance kit as a class of pytest tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mom_core import Hypervisor, Severity, Value
from mom_devkit.conformance import CHECKS, examined, run_check
from mom_devkit.hypervisors import FakeHypervisor


class ConformanceTests:
    """Base class for tests of a plugin, with a test for each check of the kit.

    ::

        class TestConformance(ConformanceTests):
            plugin = SwappinessPlugin
            host = {"proc/sys/vm/swappiness": "60\\n"}

    - `plugin_name`: the plugin's name in YAML. The default is the name of its entry point
    - `settings`: the plugin's section of the configuration, validated like YAML
    - `host`: files keyed by path, or a folder to copy. The default is a copy of this host's usual files of /proc and /sys
    - `values`: values to try, keyed by control, if bounds and present value do not yield valid values
    - `may_touch`: whether the plugin may change guests of its own hypervisor, and listen on sockets
    """

    plugin: ClassVar[type]
    plugin_name: ClassVar[str] = ""
    settings: ClassVar[Mapping[str, object]] = {}
    host: ClassVar[Mapping[str, str] | Path | None] = None
    values: ClassVar[Mapping[str, Sequence[Value]]] = {}
    may_touch: ClassVar[bool] = False

    def hypervisor(self) -> Hypervisor:
        """Return the hypervisor for a plugin without one."""
        return FakeHypervisor()

    @pytest.mark.parametrize("check", CHECKS)
    def test_it_conforms(self, check: str, mom_usual_host: Path) -> None:
        """Run one check of the kit."""
        host = mom_usual_host if self.host is None else self.host
        options: dict[str, Any] = {name: getattr(self, name) for name in ("settings", "values", "may_touch", "hypervisor")}
        with examined(self.plugin, name=self.plugin_name, host=host, **options) as subject:
            findings = run_check(subject, check)
        for finding in findings:
            print(f"{finding.severity}: {finding.message} ({finding.cure})")  # noqa: T201  # pytest shows it with a failure
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        assert not errors, "; ".join(f"{finding.message} (cure: {finding.cure})" for finding in errors)  # noqa: S101  # this is a test
