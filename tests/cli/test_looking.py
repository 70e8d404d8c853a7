"""`mom history` and `mom events` beside a running mom."""

import json
import subprocess
import sys
from pathlib import Path

from mom_on_files import Mom

MOM = Path(sys.executable).parent / "mom"


def test_the_past_of_the_host_what_came_of_decisions_and_what_happens_are_told(mom: Mom) -> None:
    mom.configure("merge: {}", "http: {}")
    mom.act()
    mom.wait_for((mom.directory / "run/status.json").exists)
    told = mom("history", "host", "-n", "3")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("time")
    assert "8.00 GiB" in told.stdout
    assert "run/mom.sock" in told.stdout.splitlines()[-1]
    assert "mem_available" in json.loads(mom("history", "host", "--json").stdout)[0]["fields"]
    nobody = mom("history", "nobody")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "there is no guest nobody" in nobody.stderr
    assert json.loads(mom("events", "--outcomes", "--guest", "host", "--json").stdout)[0]["control"] == "ksm_run"
    assert "ksm_run" in mom("events", "--outcomes").stdout
    assert mom("events", "--outcomes", "--guest", "nobody").returncode == 1
    once = mom("events")
    assert once.returncode == 0, once.stderr
    assert "cycle" in once.stdout
    assert len(once.stdout.splitlines()) == 1
    command: list[str | Path] = [MOM, "events", "--follow", "--json", "-c", mom.config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=mom.environment) as following:
        assert following.stdout is not None
        numbers = [json.loads(following.stdout.readline())["cycle"]["number"] for _ in range(3)]
        assert numbers[0] < numbers[1] < numbers[2]
        mom.started[-1].terminate()
        assert following.wait(60) == 1, "the stream has ended"
        assert following.stderr is not None
        assert "has ended" in following.stderr.read()


def test_a_file_that_cannot_be_used_any_more_blinds_nobody_while_mom_runs(mom: Mom) -> None:
    mom.configure("merge: {}", mode="observe")
    process = mom.begin()
    good, bad = mom.config.read_text(), f"{mom.config.read_text()}  bad: [\n"
    mom.config.write_text(bad)
    for verb in (["status"], ["guests"], ["explain", "nobody"]):
        told = mom(*verb)
        assert f"mom: warning: {mom.config}:" in told.stderr, verb
        assert f"mom still runs as process {process.pid} with its old configuration" in told.stderr
    assert mom("status").returncode == 0
    doctor = mom("doctor")
    assert doctor.returncode == 1
    assert f"WRONG  core: configuration: {mom.config}:" in doctor.stdout
    assert "ksm: KSM" in doctor.stdout, "it goes on"
    assert mom("config", "check").returncode == 2

    other = mom.directory / "other.yaml"
    other.write_text(bad)
    config, mom.config = mom.config, other
    assert mom("status").returncode == 2, "no mom was started with this file"
    mom.config = config
    mom.stop()
    assert mom("status").returncode == 2, "none runs"
    mom.config.write_text(good)
