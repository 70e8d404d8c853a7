"""Classes in a file that another program changes while mom runs."""

import os
from pathlib import Path

import pytest

from mom_core import ConfigError, Guest, PluginContext, Problem, Severity, read_settings
from mom_core.testing import snapshot
from mom_plugins_sla import SlaPlugin
from mom_plugins_sla.classes import ClassesFile, SlaSettings


class Host:
    """Plugin with such a file, and two guests."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.file = folder / "classes.yaml"
        self.plugin = SlaPlugin(SlaSettings.model_validate({"classes_file": self.file, **settings}), PluginContext(name="sla"))

    def write(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def classes(self) -> dict[str, object]:
        """Return the guests' classes after collecting."""
        self.plugin.mom_collect_host()
        self.wrong = self.plugin.why_unused(self.file)
        guests = [Guest("1", "web", properties={"sla_class": "silver"}), Guest("2", "db")]
        shares = {one.name: self.plugin.mom_collect_guests([one])[one.id]["mem_guarantee_share"] for one in guests}
        return {name: share for name, share in shares.items() if share is not None}

    def problems(self) -> list[str]:
        return [str(one.message) for one in self.plugin.mom_problems(snapshot()) if isinstance(one, Problem)]


def test_classes_of_the_file_come_and_change_and_go_while_mom_runs(tmp_path: Path) -> None:
    host = Host(tmp_path, default="gold")
    assert host.classes() == {"web": 1.0, "db": 0.75}, "an unknown class is the safest"
    assert host.wrong == f"there is no {host.file}"
    assert host.problems() == []
    host.write("classes: {silver: {guarantee: 50%}}")
    assert host.classes() == {"web": 0.5, "db": 0.75}
    assert host.wrong == ""
    assert f"`classes_file: {tmp_path / 'other.yaml'}`" in host.plugin.why_unused(tmp_path / "other.yaml")
    host.write("classes: {silver: {guarantee: 40%}, gold: {guarantee: 60%}}")
    assert host.classes() == {"web": 0.4, "db": 0.6}, "they come before the host's own and those that are ready"
    host.file.unlink()
    assert host.classes() == {"web": 1.0, "db": 0.75}


@pytest.mark.parametrize("text", ["classes: {silver: {guarantee: 500%}}", "klasses: {}", "classes: [", "", "\0", "\n" * (1 << 21)])
def test_a_file_that_makes_no_sense_leaves_the_classes_as_they_were_and_is_said_with_its_place(tmp_path: Path, text: str) -> None:
    host = Host(tmp_path)
    host.write("classes: {silver: {guarantee: 50%}}")
    host.classes()
    host.write(text)
    assert host.classes() == {"web": 0.5}
    assert str(host.wrong).startswith(f"the last valid classes stay in force: {host.file}")
    assert host.problems() == [host.wrong]
    host.write("classes: {silver: {guarantee: 50%}}")
    assert host.classes() == {"web": 0.5}
    assert host.problems() == []


def test_a_pipe_or_a_folder_in_the_files_place_is_not_waited_for(tmp_path: Path) -> None:
    for folder, make in (("pipe", os.mkfifo), ("folder", Path.mkdir)):
        (tmp_path / folder).mkdir()
        host = Host(tmp_path / folder)
        make(host.file)
        host.classes()
        (problem,) = host.problems()
        assert problem.startswith(f"the last valid classes stay in force: {host.file}: ")


def test_a_file_that_mom_may_not_read_counts_as_soon_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_somebody_else(path: Path, model: type[ClassesFile]) -> ClassesFile:  # root can read all files
        if not path.stat().st_mode & 0o004:
            raise ConfigError([ConfigError.Problem(str(path), 0, 0, "Permission denied")])
        return read_settings(path, model)

    monkeypatch.setattr("mom_plugins_sla.classes.read_settings", by_somebody_else)
    host = Host(tmp_path, default="gold")
    host.write("classes: {silver: {guarantee: 50%}}")
    host.file.chmod(0o600)
    assert host.classes()["web"] == 1.0
    assert "Permission denied" in str(host.wrong)
    host.file.chmod(0o644)
    assert host.classes()["web"] == 0.5
    assert host.wrong == ""


def test_the_default_may_name_a_class_of_the_file_which_may_not_be_there_yet(tmp_path: Path) -> None:
    host = Host(tmp_path, default="silver")
    assert host.classes() == {"web": 1.0, "db": 1.0}
    host.write("classes: {silver: {guarantee: 50%}}")
    assert host.classes() == {"web": 0.5, "db": 0.5}


def test_the_check_refuses_a_file_that_makes_no_sense_with_its_place(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert list(host.plugin.mom_check()) == [], "the file need not be there"
    host.write("classes:\n  silver:\n    guarantee: 500%\n")
    (finding,) = host.plugin.mom_check()
    assert (finding.severity, finding.cure) == (Severity.ERROR, "correct the file")
    assert f"{host.file}:3:" in finding.message
