"""`mom config import`."""

from pathlib import Path

import yaml
from click.testing import CliRunner

from mom_core import MomError
from mom_daemon.cli.frame import mom


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(mom, ["config", "import", *arguments])  # through `mom`, because click caches the first name of a command
    if result.exception is not None and isinstance(result.exception, MomError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_the_verb_prints_the_new_configuration(tmp_path: Path) -> None:
    old = tmp_path / "old.conf"
    old.write_text("[main]\n[logging]\nlog: /var/log/m\n")
    for options, mode in (((), "observe"), (("--observe",), "observe"), (("--enforce",), "enforce")):
        text = run(str(old), *options)[1]
        made = yaml.safe_load(text)
        assert "# - log: /var/log/m, max-bytes" in text
        assert (made["interval"], made["mode"]) == ("10s", mode)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "no such file" in run(str(tmp_path / "nope"))[1]
    assert "is a directory" in run(str(tmp_path))[1]
    bad = tmp_path / "bad"
    bad.write_bytes(b"[main]\n\xff")
    assert f"{bad}:2:1: not UTF-8 text" in run(str(bad))[1]
