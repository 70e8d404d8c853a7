"""`mom history` and `mom events` beside a running mom."""

import json
import subprocess
import sys
from pathlib import Path

from mom_on_files import Mom

MOM = Path(sys.executable).parent / "mom"


def test_the_past_of_the_host_and_what_happens_are_told(mom: Mom) -> None:
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
