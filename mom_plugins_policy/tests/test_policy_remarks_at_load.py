"""The plugin says once, when it loads policies, what the checks find in them."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
from policy_declared import DECLARED

from mom_core import InForce, PluginContext
from mom_core.testing import snapshot
from mom_plugins_policy import PolicyPlugin, checks

LOGGER = "mom.plugin.policy"


def loaded(directory: Path, defaults: dict[str, str] | None = None) -> PolicyPlugin:
    declarations = dataclasses.replace(DECLARED, policies=defaults or {})
    context = PluginContext("policy", state_directory=directory / "state", in_force=InForce(declarations=declarations))
    made = PolicyPlugin(PolicyPlugin.Settings(directory=directory), context)
    made.mom_setup()
    return made


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.levelno >= logging.WARNING]


def test_remarks_are_logged_when_policies_are_loaded_and_not_in_each_cycle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "60_own.policy"
    path.write_text("(Host.Control 'ksm_rum' 1)\n(if (> Host.mem_free 5) (nope) 0)\n")
    made = loaded(tmp_path)
    warning, error = logged(caplog)
    assert warning == ("WARNING", f"{path}:1:15: no plugin has the control ksm_rum (did you mean ksm_run?) [unknown-control]")
    assert error[0] == "ERROR"
    assert error[1].startswith(f"{path}:2:26: there is no function nope (")
    caplog.clear()
    made.mom_evaluate(snapshot(host={"mem_free": 3}), [])
    assert logged(caplog) == []
    made.mom_reload()()
    assert len(logged(caplog)) == 2


def test_policies_without_mistakes_are_loaded_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "10_parameters.policy").write_text("(defvar least 7)")
    loaded(tmp_path, {"50_default": "(defvar least 5) (if (> Host.mem_free least) 1 0)"})
    assert logged(caplog) == []


def test_not_more_is_logged_than_a_person_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "60_own.policy").write_text("\n".join(f"(debug Host.no_{number})" for number in range(50)))
    loaded(tmp_path)
    assert len(logged(caplog)) == 31
    assert "and 20 more" in logged(caplog)[-1][1]


def test_a_mistake_of_the_checks_does_not_keep_policies_from_being_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(policy: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(checks, "check_policy", broken)
    (tmp_path / "60_own.policy").write_text("(Host.Control 'ksm_run' 1)")
    made = loaded(tmp_path)
    assert [message for _, message in logged(caplog)] == ["the policies could not be checked"]
    assert len(list(made.mom_evaluate(snapshot(host={"ksm_run": 0}), []))) == 1
