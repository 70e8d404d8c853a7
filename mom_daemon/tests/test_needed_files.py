"""Missing files that a configuration names are errors."""

from pathlib import Path

import pytest

from mom_daemon.cli.frame import run

YAML = """state_directory: {here}/state
run_directory: {here}/run
plugins:
  policy:
    file: {policy}
  http:
    tcp:
      listen: "127.0.0.1:8132"
      certificate: {here}/nosuch.pem
      key: {here}
"""


def test_every_file_that_is_missing_is_refused_at_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mom.yaml"
    file.write_text(YAML.format(here=tmp_path, policy="/nosuch"))
    assert run(["config", "check", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"{file}:5:" in said
    assert "plugins.policy.file: there is no file /nosuch" in said
    assert "plugins.http.tcp.certificate: " in said
    assert f"plugins.http.tcp.key: there is no file {tmp_path}" in said
