"""Test mom's Debian package and `run` in fresh Debian systems: `session.py PACKAGE [RELEASE …] [--without-tests]`.

`nox -s fresh` runs this script as root. debootstrap installs each release, and systemd boots it. apt and Ansible install the package,
upgrade it while mom runs, remove and purge it. Then `./run demo` and `./run tests` run in a clone of this repository, for an hour.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from machine import Machine, say

from mom_devkit import wait_until

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache/fresh"
RELEASES: Final = ("bookworm", "trixie")

POLICY: Final = '(Host.Control "ksm_run" 1)\n'
"""Policy that starts KSM, because this host has no guests."""
OURS: Final = ("etc", "usr", "var/lib", "var/log", "run", "opt", "root", "srv", "tmp")
NOT_OURS: Final = (
    "etc/ld.so.cache", "run/systemd", "run/user", "run/log", "tmp/systemd-private", "var/lib/apt", "var/lib/dpkg", "var/lib/systemd",
    "var/lib/private", "var/log/apt", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/journal", "srv/ksm", "srv/mom",
)  # fmt: skip
"""Files of apt, dpkg, systemd and this session."""


def main() -> int:
    """Test all releases, one after the other. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("releases", nargs="*", default=RELEASES, metavar="RELEASE")
    parser.add_argument("--without-tests", action="store_true", help="leave `./run tests` out, which takes an hour")
    wanted = parser.parse_intermixed_args()
    if os.geteuid() or not shutil.which("debootstrap"):
        print("this needs root and debootstrap: apt-get install debootstrap, and call it as root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # end the machine in any case
    for release in wanted.releases:
        began = time.monotonic()
        machine = Machine(release, CACHE)
        machine.make()
        with machine.boot("files"):
            say(f"{release} runs, {machine.run('systemctl', '--version').splitlines()[0]}, {machine.run('python3', '--version').strip()}")
            try:
                check_package(machine, wanted.package)
                check_ansible(machine)
            except SystemExit:
                print(machine.run("journalctl", "--no-pager", "--lines=100", may_fail=True))  # the log ends with the machine
                raise
        with machine.boot("kernel"):
            check_commands(machine, wanted.package, without_tests=wanted.without_tests)
        shutil.rmtree(machine.folder)
        say(f"{release}: all is well, after {time.monotonic() - began:.0f} s")
    return 0


def check_package(machine: Machine, package: Path) -> None:
    """Install, upgrade, remove and purge the package."""
    place = machine.folder / "srv/mom"
    place.mkdir()
    shutil.copy(package, place / "mom.deb")
    _repack(package, place / "newer.deb")
    machine.run("apt-get", "update")
    # Dependencies first, so that files left at the end belong to the package.
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "python3-libvirt", "man-db")
    before = _files(machine)

    say("install")
    began = time.monotonic()
    machine.run("apt-get", "install", "--yes", "/srv/mom/mom.deb")
    say(f"installed after {time.monotonic() - began:.1f} s")
    config = machine.folder / "etc/mom/mom.yaml"
    written = config.read_text()
    _claim("Written by `mom config init`" in written, "a configuration is written for what is found")
    enabled = machine.run("systemctl", "is-enabled", "mom", may_fail=True).strip()
    _claim(_state(machine) == "active" and enabled == "enabled", "mom runs, and will when the machine is started again")
    _claim(json.loads(machine.run("mom", "status", "--json"))["running"], "mom status says that it runs")
    machine.run("mom", "config", "check")
    machine.run("momd", "--help")
    machine.run("/usr/lib/mom/bin/python3", "-I", "-c", "import libvirt; libvirt.openReadOnly('test:///default').listAllDomains()")
    for page in ("mom", "mom-run", "mom-policy-check", "momd"):
        _claim(machine.run("man", "-w", page).strip().endswith(f"{page}.1.gz"), f"there is a page of the manual for {page}")
    # In the shell itself, like a Tab key.
    asked = "source /usr/share/bash-completion/completions/mom; COMP_WORDS=(mom pol) COMP_CWORD=1; _mom_completion mom; echo $COMPREPLY"
    _claim("policy" in machine.run("bash", "-c", asked).split(), "bash completes verbs")

    # Like Debian's python3 when its version changes, such as at an upgrade from 12 to 13.
    machine.run("/usr/share/python3/runtime.d/mom.rtupdate", "rtupdate", "python3.11", "python3.13")
    compiled = next((machine.folder / "usr/lib/mom/lib/python3/site-packages/mom_core/__pycache__").glob("model.*.pyc"), None)
    _claim(compiled is not None, "byte code is there, and made anew for another Python")

    say("observe")
    policy = machine.folder / "etc/mom/policy.d/60_merge.policy"
    policy.parent.mkdir(exist_ok=True)
    policy.write_text(POLICY)
    machine.run("systemctl", "reload", "mom")
    wait_until(lambda: _outcomes(machine).get("observed", 0) > 0, "mom says what it would set")
    _claim(machine.knob() == 0, "what is installed touches nothing before the operator says so")

    say("enforce, and upgrade")
    edited = written.replace("mode: observe", "mode: enforce") + "# the operator's own line\n"
    config.write_text(edited)
    machine.run("systemctl", "reload", "mom")
    wait_until(lambda: machine.knob() == 1, "mom has set what the policy says")
    ledger, process = _ledger(machine), _main_pid(machine)
    _claim(len(ledger) == 1, "what stood there is in the ledger")
    with _Watch(machine) as watch:
        machine.run("apt-get", "install", "--yes", "/srv/mom/newer.deb")
        wait_until(lambda: _main_pid(machine) not in {0, process} and _cycles(machine) > 1, "another mom has completed a cycle")
    _claim(watch.always == {1}, f"an upgrade leaves what mom has set as it is, at every moment: {watch.always}")
    _claim(_ledger(machine) == ledger, "the new mom has taken the ledger over, with what stood there first")
    _claim(config.read_text() == edited, "an upgrade leaves the configuration as it is")

    say("remove")
    machine.run("systemctl", "stop", "mom")
    _claim(machine.knob() == 0, "a stop puts everything back")
    machine.run("systemd-run", "--unit=by-hand", "mom", "run")
    wait_until(lambda: machine.knob() == 1, "a mom that was started by hand has set what the policy says")
    refused = machine.start("apt-get", "remove", "--yes", "mom")
    _claim(refused.returncode != 0 and "mom stays installed" in refused.stdout, "mom is not removed while something cannot be put back")
    _claim(machine.knob() == 1, "the mom that was started by hand goes on")
    machine.run("systemctl", "stop", "by-hand")
    machine.run("systemctl", "reset-failed", "mom")
    machine.run("systemctl", "start", "mom")
    wait_until(lambda: machine.knob() == 1, "mom runs again")
    machine.run("apt-get", "remove", "--yes", "mom")
    _claim(machine.knob() == 0, "everything is put back when mom is removed")
    _claim(not (machine.folder / "usr/lib/mom").exists(), "no byte code is left")
    _claim(config.read_text() == edited, "the configuration stays when mom is removed")

    say("install again, and purge")
    machine.run("apt-get", "install", "--yes", "/srv/mom/mom.deb")
    wait_until(lambda: machine.knob() == 1, "mom runs with the configuration that was left")
    _claim(config.read_text() == edited, "the configuration is as it was left")
    fleet = machine.folder / "etc/systemd/system/mom.service.d/fleet.conf"
    fleet.parent.mkdir()
    fleet.write_text("# as `mom fleet join` writes it\n", encoding="utf-8")
    machine.run("systemctl", "kill", "--signal=KILL", "mom")
    machine.run("apt-get", "purge", "--yes", "mom")
    _claim(machine.knob() == 0, "everything is put back also when mom was killed just before")
    left = _files(machine) - before
    _claim(not left, f"nothing is left: {sorted(left)}")
    _claim("mom" not in machine.run("systemctl", "list-unit-files", "--no-pager"), "systemd knows no unit of it")


def check_ansible(machine: Machine) -> None:
    """Install the package by the Ansible role, with Debian's ansible-core."""
    say("by Ansible")
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "ansible-core", "python3-apt")  # for its module apt
    shutil.copytree(ROOT / "packaging/ansible", machine.folder / "srv/mom/packaging/ansible")
    shutil.copytree(ROOT / "packaging/drop-ins", machine.folder / "srv/mom/packaging/drop-ins")
    before = _files(machine)

    def plays(*words: str, **variables: object) -> int:
        """Run the role. Return the number of changed tasks. End the session if a task fails."""
        given = json.dumps(
            {"mom_package": "/srv/mom/mom.deb", "mom_policies": {"60_merge": POLICY}, "mom_settings": {"interval": "1s"}, **variables}
        )
        command = ("ansible-playbook", "-i", "localhost,", "-c", "local", "/srv/mom/packaging/ansible/site.yml", "-e", given, *words)
        folders = ("HOME=/srv/mom/home", "REMOTE_TMP=/srv/mom/there", "LOCAL_TEMP=/srv/mom/here")
        environment = (*(f"ANSIBLE_{folder}" for folder in folders), "ANSIBLE_NOCOLOR=1", "PYTHONDONTWRITEBYTECODE=1")
        said = machine.run("env", *environment, *command)
        return int(re.findall(r"^localhost .* changed=(\d+) ", said, re.M)[0])

    _claim(plays("--check") > 0, "a check says what would be done")
    done = _files(machine) ^ before
    _claim(not done, f"and does nothing: {sorted(done)}")
    plays()
    wait_until(lambda: _outcomes(machine).get("observed", 0) > 0, "mom says what it would set")
    _claim(_state(machine) == "active" and machine.knob() == 0, "it observes")
    plays(mom_mode="enforce")
    wait_until(lambda: machine.knob() == 1, "mom has set what the policy says")
    _claim(plays(mom_mode="enforce") == 0, "the same again changes nothing")
    plays(mom_state="absent", mom_purge=True)
    _claim(machine.knob() == 0, "everything is put back")
    left = _files(machine) - before
    _claim(not left, f"nothing is left: {sorted(left)}")
    _claim(plays(mom_state="absent", mom_purge=True) == 0, "there is nothing to take away any more")


def check_commands(machine: Machine, package: Path, *, without_tests: bool) -> None:
    """Run the README's commands in a clone of the commit. `./run deb` must give the same bytes."""
    place = machine.folder / "root/mom"
    subprocess.run(["git", "clone", "--quiet", ROOT, place], check=True, timeout=120)
    machine.run("sh", "-c", "cd /root/mom && exec ./run deb", seconds=900)
    _claim(filecmp.cmp(place / "dist" / package.name, package, shallow=False), f"{package.name} has the same bytes when it is built here")
    for words, seconds in ((("./run", "demo"), 900), (("./run", "tests"), 7200))[: 1 if without_tests else 2]:
        say(" ".join(words))
        began = time.monotonic()
        said = machine.run("sh", "-c", f"cd /root/mom && exec {' '.join(words)}", seconds=seconds)
        say(f"{' '.join(words)}: {said.strip().splitlines()[-1]} ({time.monotonic() - began:.0f} s)")


class _Watch:
    """Watches the value of KSM's `run`."""

    def __init__(self, machine: Machine) -> None:
        self.always: set[int] = set()
        self._machine = machine
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.always.add(self._machine.knob())

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _repack(package: Path, newer: Path) -> None:
    """Write the package with a later version."""
    folder = newer.with_suffix("")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True, timeout=120)
    control = folder / "DEBIAN/control"
    control.write_text("".join(f"{line}.1\n" if line.startswith("Version: ") else f"{line}\n" for line in control.read_text().splitlines()))
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", folder, newer], check=True, timeout=120, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(folder)


def _claim(so: bool, what: str) -> None:
    if not so:
        raise SystemExit(f"not so: {what}")
    say(f"  {what}")


def _files(machine: Machine) -> set[str]:
    listed = machine.run("find", *(f"/{name}" for name in OURS), "-xdev").splitlines()
    return {name.removeprefix("/") for name in listed if not name.removeprefix("/").startswith(NOT_OURS)}


def _state(machine: Machine) -> str:
    return machine.run("systemctl", "is-active", "mom", may_fail=True).strip()


def _main_pid(machine: Machine) -> int:
    return int(machine.run("systemctl", "show", "--property=MainPID", "--value", "mom"))


def _cycles(machine: Machine) -> int:
    text = machine.run("systemctl", "show", "--property=StatusText", "--value", "mom").split()
    return int(text[1].strip(":,")) if text[:1] == ["cycle"] else 0


def _outcomes(machine: Machine) -> dict[str, int]:
    counts: dict[str, int] = json.loads(machine.run("mom", "status", "--json", may_fail=True)).get("outcome_counts", {})
    return counts


def _ledger(machine: Machine) -> list[dict[str, object]]:
    content: list[dict[str, object]] = json.loads((machine.folder / "var/lib/mom/ledger.json").read_text())["content"]
    return [{name: value for name, value in entry.items() if name != "in_doubt"} for entry in content]


if __name__ == "__main__":
    sys.exit(main())
