"""A new fleet of three hosts, made with the first commands of docs/fleet.md."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from fleet_world import MOM, free_port, need_a_server, port_of

from mom_core import MomError
from mom_devkit import wait_until
from mom_plugins_fleet.verbs.server_setup import make_server

DOCUMENT = Path(__file__).parents[2] / "docs" / "fleet.md"
SYSTEMCTL = """\
#!/bin/sh -e
exec </dev/null
case "$*" in
"enable --now "*) cd "$(dirname "$3")" && sed -i "s|/var/lib/mom-nats|$MACHINE/store|" nats.conf; run=$(sed -n s/^ExecStart=//p "$3") ;;
"restart mom") run="mom run -c $MOM_CONFIG" ;;
esac
[ -z "$run" ] || { $run >"$MACHINE/log" 2>&1 & echo $! >>"$MACHINE/../started"; }
"""
"""Substitutes for commands of a machine: this test does not cover systemd."""


class Machines:
    """Machines in a folder, with their installed programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in (("mom", f'#!/bin/sh\nexec {MOM} "$@"\n'), ("systemctl", SYSTEMCTL)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def types(self, machine: str, command: str) -> str:
        own = self.folder / machine
        places = {"MACHINE": own, "MOM_CONFIG": own / "mom.yaml", "MOM_FLEET_HOME": own / "fleet"}
        environment = {
            **os.environ,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            **{name: str(path) for name, path in places.items()},
        }
        done = subprocess.run(["sh", "-c", command], cwd=own, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        for process in (self.folder / "started").read_text().split() if (self.folder / "started").exists() else []:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, and its pid may be reused
                if str(self.folder) in Path(f"/proc/{process}/cmdline").read_text():
                    os.kill(int(process), signal.SIGKILL)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    need_a_server()
    made = Machines(tmp_path)
    yield made
    made.close()


def configuration(folder: Path, host: str) -> Path:
    """Return the configuration of a host outside a fleet."""
    own = folder / host
    own.mkdir()
    places = f"state_directory: {own}/state\nrun_directory: {own}/run\n"
    plugins = f"plugins:  # of this host\n  sim: {{shelf: {folder}/shelf, host: {host}, guests: 2}}\n  policy: {{}}\n"
    (own / "mom.yaml").write_text(f"# mine\ninterval: 1s\nmode: enforce\n{places}{plugins}")
    (own / "mom.yaml").chmod(0o640)
    return own / "mom.yaml"


def test_a_fleet_whose_root_key_is_kept_elsewhere_gets_no_other_one_with_a_new_certificate(tmp_path: Path) -> None:
    need_a_server()
    make_server(tmp_path, ["nats1", "10.0.0.1:4223"])
    before = {name: (tmp_path / name).read_text() for name in ("accounts.conf", "ca.pem", "server.pem")}
    (tmp_path / "root.key").unlink()
    (tmp_path / "server.pem").unlink()
    make_server(tmp_path, ["nats1", "10.0.0.1:4223"])
    assert not (tmp_path / "root.key").exists()
    assert [name for name, text in before.items() if (tmp_path / name).read_text() != text] == ["server.pem"]
    for names, why in (
        (["nats2"], "belongs to a fleet with other servers"),
        (["a b"], "is not a server name"),
        (["x,y"], "is not a server name"),
    ):
        with pytest.raises(MomError, match=why):
            make_server(tmp_path, names)


@pytest.mark.processes
def test_three_hosts_are_a_fleet_by_the_commands_of_the_document(machines: Machines) -> None:
    server, of_hosts = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[:2]
    install, init, enroll, copy = server.splitlines()
    (join,) = of_hosts.splitlines()
    assert install.startswith("apt install nats-server && systemctl disable --now nats-server ")
    assert copy.startswith("scp h1.join ")
    hosts = re.findall(r"\bh\d\b", enroll)
    with closing(free_port()) as place:
        name = f"localhost:{port_of(place)}"
        for machine in ("server", *hosts):
            configuration(machines.folder, machine)
        assert "buckets exist" in machines.types("server", init.replace("nats1.example.org", name))
        machines.types("server", enroll)
        for host in hosts:
            shutil.copy(machines.folder / "server" / f"{host}.join", machines.folder / host)
            machines.types(host, join.replace("h1", host))
            machines.types(host, "systemctl restart mom")  # `join` restarts the unit

        def told() -> dict[str, tuple[object, object]]:
            rows = json.loads(machines.types("server", "mom fleet status --json"))["hosts"]
            return {one["host"]: (one["guests"], one["policies"]) for one in rows}

        wait_until(lambda: told() == dict.fromkeys(hosts, (2, "newest")), told)
