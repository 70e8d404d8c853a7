"""The Ansible role: install, observe, enforce, repeat without changes, and remove everything."""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from commands import MadeOnce, run
from host_files import ksm_host
from own_systemd import OwnSystemd

from mom_devkit import wait_until

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / "packaging/ansible"
ROLE = ANSIBLE / "roles/mom"

NEEDED = ("mom_core", "mom_kvm", "mom_helper", "mom_daemon", "mom_plugins_host", "mom_plugins_ksm", "mom_plugins_policy")

WHEELS = """
import os, sys
from hatchling.build import build_wheel

for folder in sys.argv[2:]:
    os.chdir(folder)
    build_wheel(sys.argv[1])
"""

KNOBS = ("run", "pages_to_scan", "sleep_millisecs", "merge_across_nodes")
"""KSM's files that mom may write."""

HERE = "[Service]\nPrivateTmp=no\nReadWritePaths={folder}\nStandardOutput=append:{folder}/log\nStandardError=append:{folder}/log\n"
"""Additional lines for units: the host of files is in /var/tmp."""


def uv(made: Path, *words: str | Path) -> None:
    """Install requirements with uv, from the index in pip's settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "packaging")
        told: dict[str, str] = importlib.import_module("tree").as_pip_is_told(run(sys.executable, "-m", "pip", "config", "list"))
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", made / "bin/python", *words, environment=told)


@pytest.fixture(scope="session")
def ansible(made_once: MadeOnce) -> Path:
    """Return the folder of Ansible's programs."""

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", folder / "ansible")
        uv(folder / "ansible", "ansible-core>=2.17,<3")

    return made_once("ansible-core", make) / "ansible/bin"


@pytest.fixture(scope="session")
def wheels(made_once: MadeOnce) -> Path:
    """Return a folder with wheels of the distributions that the role installs."""

    def make(folder: Path) -> None:
        (folder / "dist").mkdir()
        run(sys.executable, "-c", WHEELS, folder / "dist", *(ROOT / name for name in NEEDED))

    return made_once("wheels-of-the-role", make) / "dist"


class Host:
    """Machine with systemd that Ansible manages, at first without mom, with a host of files."""

    def __init__(self, folder: Path, ansible: Path, wheels: Path) -> None:
        self.folder, self.systemd, self._ansible = folder, _Machine(folder), ansible
        ksm_host(folder / "root")
        for name in ("opt", "bin", "lib", "etc"):
            (folder / name).mkdir()
        for unit in ("mom", "mom-restore", "mom-helper", "mom-libvirt-helper"):
            (folder / f"units/{unit}.service.d").mkdir(parents=True)
            (folder / f"units/{unit}.service.d/here.conf").write_text(HERE.format(folder=folder))
        declared = "".join(f"[knob {folder}/root/sys/kernel/mm/ksm/{name}]\nleast = 0\nmost = 1000000\n" for name in KNOBS)
        self.variables: dict[str, object] = {
            "mom_install": "pip",
            "mom_pip_requirements": [name.replace("_", "-") for name in NEEDED],
            "mom_pip_arguments": ["--quiet", "--no-compile", "--find-links", str(wheels)],
            "mom_interval": "200ms",
            "mom_plugins": {"host": {}, "ksm": {}, "policy": {"directory": "/etc/mom/policy.d", "defaults": False}},
            "mom_policies": {"50_merge": '(Host.Control "ksm_run" 1)\n'},
            "mom_settings": {"root": f"{folder}/root", "run_directory": "/run/mom"},
        }
        here = [
            {"ansible.builtin.file": {"path": "/etc/mom/helper.d", "state": "directory", "mode": "0755"}},
            {"ansible.builtin.copy": {"dest": "/etc/mom/helper.d/here.conf", "content": declared, "mode": "0644"}},
        ]
        block = {"block": here, "when": "mom_state | default('present') == 'present'"}
        play = {"hosts": "localhost", "gather_facts": False, "pre_tasks": [block], "roles": ["mom"]}
        (folder / "site.yml").write_text(yaml.safe_dump([play]))

    def plays(self, *words: str, **variables: object) -> tuple[dict[str, int], str]:
        """Run the role. Return Ansible's counts and output."""
        given = json.dumps({**self.variables, **variables, "ansible_python_interpreter": sys.executable})
        environment = {
            "ANSIBLE_ROLES_PATH": str(ANSIBLE / "roles"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        told = [f"{name}={value}" for name, value in environment.items()]
        command = [str(self._ansible / "ansible-playbook"), "-c", "local", str(self.folder / "site.yml"), "-e", given, *words]
        hardened = ("sh", "-c", 'umask 027 && exec "$@"', "sh")  # as some guides advise for root
        said = self.systemd.run(*hardened, "env", *told, *command, seconds=300)
        counted = re.search(r"^localhost +: (.*)$", said.stdout, re.M)
        assert counted, said.stdout + said.stderr
        text = said.stdout + said.stderr
        return {name: int(number) for name, number in (one.split("=") for one in counted[1].split())}, text

    def knob(self) -> int:
        return int((self.folder / "root/sys/kernel/mm/ksm/run").read_text() or -1)

    def left(self) -> set[str]:
        """Return all files in the folders that the role writes to."""
        places = ("units", "opt", "bin", "lib", "etc")
        return {str(path.relative_to(self.folder)) for place in places for path in (self.folder / place).rglob("*")}


class _Machine(OwnSystemd):
    """systemd with its own /etc, /opt, /usr/local/bin and systemd units."""

    def _what_mom_sees(self) -> Iterator[str]:
        subprocess.run(["cp", "-a", "/etc/.", self.folder / "etc"], check=True, timeout=60)
        for name in ("mom", "polkit-1", "sysusers.d", "systemd/system"):
            subprocess.run(["rm", "-rf", self.folder / "etc" / name], check=True, timeout=60)
        for name in ("systemd/system", "polkit-1/rules.d", "sysusers.d"):
            (self.folder / "etc" / name).mkdir(parents=True)
        for place, there in (("etc", "/etc"), ("opt", "/opt"), ("bin", "/usr/local/bin"), ("units", "/etc/systemd/system")):
            yield f"mount --bind {self.folder}/{place} {there}"
        yield "set -- /etc/systemd/system"  # folders of units and enabled units
        yield from super()._what_mom_sees()


@pytest.fixture
def host(ansible: Path, wheels: Path) -> Iterator[Host]:
    """Return a machine in a folder that mom's user can read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="mom-ansible-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        one = Host(folder, ansible, wheels)
        with one.systemd.running():
            yield one


@pytest.mark.release
def test_the_role_installs_observes_enforces_and_takes_everything_away(host: Host) -> None:
    before = host.left()
    counted, said = host.plays("--check")
    assert counted["failed"] == 0, said
    assert counted["changed"] > 5, said
    assert host.left() == before, "a check changes nothing"

    counted, said = host.plays()
    assert counted["failed"] == 0, said
    assert host.systemd.show("mom", "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}, said
    status = json.loads(host.systemd.run("mom", "status", "--json").stdout)
    assert status["mode"] == "observe"
    assert host.knob() == 0, "it touches nothing"

    counted, said = host.plays(mom_mode="enforce")
    assert (counted["failed"], counted["changed"]) == (0, 2), f"the file, and the reload: {said}"
    wait_until(lambda: host.knob() == 1, (host.folder / "log").read_text)
    counted, said = host.plays(mom_mode="enforce")
    assert (counted["failed"], counted["changed"]) == (0, 0), said

    config = (host.folder / "etc/mom/mom.yaml").read_bytes()
    for words in ([], ["--check"]):
        counted, said = host.plays(*words, mom_mode="enforce", mom_interval="soon")
        assert counted["failed"] == 1
        assert "soon" in said
        assert (host.folder / "etc/mom/mom.yaml").read_bytes() == config, "what is wrong is not put in place"
    assert host.knob() == 1

    program = host.folder / "bin/mom"
    link = program.readlink()
    program.unlink()
    program.write_text('#!/bin/sh\ncase $1 in restore) echo "libvirtd does not answer" >&2; exit 1;; esac\nexec /opt/mom/bin/mom "$@"\n')
    program.chmod(0o755)
    counted, said = host.plays(mom_state="absent", mom_purge=True)
    assert counted["failed"] == 1
    assert "mom is not removed: libvirtd does not answer" in said
    assert host.systemd.show("mom", "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}, said
    program.unlink()
    program.symlink_to(link)

    counted, said = host.plays(mom_state="absent", mom_purge=True)
    assert counted["failed"] == 0, said
    assert host.knob() == 0, "everything is put back"
    assert host.left() == before
    counted, said = host.plays(mom_state="absent", mom_purge=True)
    assert (counted["failed"], counted["changed"]) == (0, 0), said


def test_what_the_role_takes_is_described_and_has_the_default_that_is_said() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    described = re.findall(r"^\| `(mom_\w+)` \|", (ROLE / "README.md").read_text(), re.M)
    assert list(defaults) == list(options) == described
    for name, option in options.items():
        assert option.get("default", defaults[name]) == defaults[name]
        assert defaults[name] in option.get("choices", [defaults[name]])


def test_the_role_installs_what_units_there_are() -> None:
    files = yaml.safe_load((ROLE / "vars/main.yml").read_text())["mom_files"]
    there = {path.name for path in (ROOT / "packaging").glob("mom*.s*[et]")} - {"mom-vdsm.service"}
    assert {Path(one["from"]).name for one in files if "/systemd/system/" in one["to"]} == there
    assert all((ROOT / "packaging" / one["from"]).is_file() for one in files)


def test_by_pip_mom_may_read_definitions_of_proxmox_ves_guests_as_by_the_package() -> None:
    """Without this setting, mom leaves all guests of the node alone."""
    package = (ROOT / "packaging/deb/postinst").read_text()
    (group,) = re.findall(r"usermod --append --groups (\S+) mom", package)
    tasks = yaml.safe_load((ROLE / "tasks/install_pip.yml").read_text())
    (task,) = (one for one in tasks if one.get("ansible.builtin.user", {}).get("groups") == group)
    assert task["ansible.builtin.user"]["append"], "the groups that it has it keeps"
    (looked,) = (one["register"] for one in tasks if one.get("ansible.builtin.stat", {}).get("path") == "/etc/pve")
    assert task["when"] == f"{looked}.stat.exists"


def test_what_the_role_writes_by_default_is_a_configuration(tmp_path: Path) -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    written = {"interval": defaults["mom_interval"], "mode": defaults["mom_mode"], "plugins": defaults["mom_plugins"]}
    (tmp_path / "mom.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    command = [str(Path(sys.executable).parent / "mom"), "config", "check", str(tmp_path / "mom.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr
