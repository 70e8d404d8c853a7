"""Plugins that are installed while mom runs."""

import signal
import subprocess
import sys
from pathlib import Path

from mom_on_files import Mom

from mom_devkit.plugin_new import write_project

VMSTAT = "allocstall_normal 10\npgscan_kswapd 400\noom_kill 3\n"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wheel_that_is_installed_while_mom_runs_is_used_after_sighup(mom: Mom, tmp_path: Path) -> None:
    (mom.root / "proc/vmstat").write_text(VMSTAT)
    mom.install("quiet", "class Plugin:\n    def __init__(self, settings, context): pass\n")
    mom.configure("quiet: {}")
    process = mom.start()
    mom.wait_for(lambda: mom.state_of("quiet") == "ok")

    write_project("page-cache", "collector", tmp_path / "project")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", tmp_path / "project")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", mom.site, wheel)
    mom.configure("quiet: {}", "page-cache: {}")
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.state_of("page-cache") == "ok")
    mom.wait_for(lambda: mom.status()["host"]["fields"].get("page_cache_oom_kills") == 3)
    mom.stop()
