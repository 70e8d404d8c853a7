"""A mom that reads its configuration again logs as the one that is in force says, and as no other."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mom_devkit import wait_until

pytestmark = pytest.mark.processes

RUNS = """
import dataclasses, json, sys
from pathlib import Path
from mom_daemon import daemon_log, run_daemon
from mom_devkit import config_of
folder = Path(sys.argv[1])
config = config_of(folder, {}, interval=0.02)
with daemon_log() as log:
    run_daemon(lambda: dataclasses.replace(config, **json.loads((folder / "settings").read_text())), log)
"""


def test_what_a_refused_configuration_says_of_the_log_is_not_in_force(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def configure(**settings: str) -> None:
        (tmp_path / "settings").write_text(json.dumps(settings))

    def logged(text: str) -> bool:
        return text in log.read_text()

    configure()
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", RUNS, str(tmp_path)], stderr=file)
    try:
        (status,) = wait_until(lambda: list(tmp_path.rglob("status.json")), log.read_text)
        configure(state_directory="elsewhere", log_format="json", log_level="debug")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: logged("ERROR mom.engine: the new configuration is refused"), log.read_text)
        seen = status.read_text()
        wait_until(lambda: status.read_text() != seen, log.read_text)
        assert not logged('"level": ')
        assert not logged("DEBUG")
        configure(log_format="json")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: logged("the new configuration is in force"), log.read_text)
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert '"message": "ended"' in log.read_text().splitlines()[-1]
