"""The configuration as an argument, as in `mom config check FILE`."""

import pytest

from mom_daemon.cli.frame import run

VERBS = (["config", "check"], ["config", "show"], ["status"], ["guests"], ["doctor"], ["fields"], ["restore"], ["run"])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("way", [[], ["-c"]], ids=["FILE", "-c FILE"])
def test_each_verb_that_takes_one_file_takes_it_as_argument_and_option(verb, way, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("interval: never\n")
    assert run([*verb, *way, str(file)]) == 2
    assert f"{file}:1:1" in capsys.readouterr().err
