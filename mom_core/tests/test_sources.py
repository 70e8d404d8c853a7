"""Where verbs have their figures from, when a plugin that offers some is broken."""

from __future__ import annotations

import pytest

from mom_core.cli import frame

BROKEN = """
@staticmethod
@hookimpl
def mom_running(settings, run_directory):
    raise KeyError("token")

@staticmethod
@hookimpl
def mom_recording(path, settings, state_directory):
    raise SystemExit(7)
"""


@pytest.fixture
def mom(capsys, only_shelf, tmp_path):
    """`mom`, with a configuration that enables the broken plugin."""
    only_shelf.add_plugin("acme", BROKEN)
    file = tmp_path / "mom.yaml"
    file.write_text(f"run_directory: {tmp_path}/run\nstate_directory: {tmp_path}/state\nplugins: {{acme: {{}}}}\n")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = frame.run([*arguments, "-c", str(file)])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("verb", ["status", "fields"])
def test_a_way_to_the_running_mom_that_is_broken_is_remarked_upon_and_the_verb_goes_on(mom, verb):
    _, out, err = mom(verb)
    assert "mom: plugin 'acme' of acme-acme 1.0: mom_running failed: KeyError: 'token'" in err
    assert "Traceback" not in err
    assert out


def test_a_way_to_a_recording_that_is_broken_is_the_answer(mom):
    code, _, err = mom("explain", "web-1", "--at", "10:00")
    assert code == 2
    assert "mom_recording failed: SystemExit: 7 (tell the authors of acme-acme)" in err
