"""`mom bugreport`: what is in it, and what never is."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from mom_core.plugins.secrets import MASK

if TYPE_CHECKING:
    from conftest import Mom

PLANTED = ("s3cret-password", "tok-ABCDEF012345", "pw-in-uri", "from-the-token-file", "header-value-777", "query-token-9", "pem-body-line")


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {Path(m.name).name: file.read().decode() for m in archive.getmembers() if (file := archive.extractfile(m))}


def test_it_holds_what_helps_and_says_what_that_is(mom: Mom) -> None:
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.wait_for((mom.directory / "run/status.json").exists)
    report = mom.directory / "report.tar.gz"
    done = mom("bugreport", "-o", str(report))
    assert done.returncode == 0, done.stderr
    assert report.stat().st_mode & 0o777 == 0o600
    found = contents(report)
    assert json.loads(found["status.json"])["pid"] == process.pid
    assert json.loads(found["ledger.json"])["content"][0]["control"] == "ksm_run"
    assert f'"pid": {process.pid}' in found["lock.txt"]
    assert "log_level" in found["config.txt"]
    assert "ksm" in found["doctor.txt"]
    assert "MemAvailable: 2097152 kB" in found["host.txt"]
    assert "sys/kernel/mm/ksm/run\n1" in found["host.txt"]
    assert found["versions.txt"].startswith("mom ")
    for name in found.keys() - {"README.txt"}:
        assert name in found["README.txt"]
        assert name in done.stdout
    printed = mom("bugreport", "-o", "-").stdout
    assert all(f"===== {name}\n" in printed for name in found)
    again = mom("bugreport", "-o", str(report))
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_no_secret_is_ever_in_it(mom: Mom) -> None:
    token = mom.directory / "token"
    token.write_text("from-the-token-file\n")
    mom.configure(
        "merge: {}",
        'secretive: {password: "s3cret-password", api_token: "tok-ABCDEF012345", '
        'uri: "qemu+tls://admin:pw-in-uri@host.example/system?auth_token=query-token-9", '
        f'token_file: "{token}", headers: {{Authorization: "Bearer header-value-777"}}}}',
    )
    state = mom.directory / "state"
    state.mkdir()
    pem = "-----BEGIN PRIVATE KEY-----\npem-body-line\n-----END PRIVATE KEY-----\n"
    (state / "ledger.json.damaged-1").write_text(f"{pem}from-the-token-file")
    mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.wait_for((mom.directory / "run/status.json").exists)
    report = mom.directory / "report.tar.gz"
    done = mom("bugreport", "-o", str(report))
    assert done.returncode == 0, done.stderr
    texts = {**contents(report), "what is printed": done.stdout + done.stderr}
    for name, text in texts.items():
        for secret in PLANTED:
            assert secret not in text, (name, secret)
    assert "refused" in texts["status.json"], "the plugin's error is there, without what it talked of"
    assert MASK in texts["status.json"]
    assert "secretive" in texts["config.txt"]
    assert str(token) in texts["config.txt"], "where a secret is kept is none"


def test_a_broken_configuration_and_no_mom_are_what_it_is_for(mom: Mom) -> None:
    mom.config.write_text("interval: 5\nplugins: {nobody: {password: s3cret-password}}\n")
    report = mom.directory / "report.tar.gz"
    done = mom("bugreport", "-o", str(report))
    assert done.returncode == 0, done.stderr
    found = contents(report)
    assert "nobody" in found["config.txt"]
    assert "s3cret-password" not in "".join(found.values())


def test_anonymous_names_no_guest(mom: Mom) -> None:
    mom.config.write_text(
        f"interval: 200ms\nstate_directory: {mom.directory}/state\nrun_directory: {mom.directory}/run\n"
        "plugins: {sim: {guests: 2}, balloon: {}, policy: {}}\nguests:\n  'vm-00*': {}\n"
    )
    process = mom.start()
    mom.wait_for(lambda: mom("status").returncode == 0)
    names = [row["name"] for row in json.loads(mom("guests", "--json").stdout)]
    assert names
    report = mom.directory / "report.tar.gz"
    assert mom("bugreport", "--anonymous", "-o", str(report)).returncode == 0
    text = "".join(contents(report).values())
    assert "guest-1" in text
    for name in names:
        assert name not in text
    process.terminate()
    assert process.wait(60) == 0


def test_anonymous_names_no_guest_while_mom_does_not_run_either(mom: Mom) -> None:
    folders = f"state_directory: {mom.directory}/state\nrun_directory: {mom.directory}/run\n"
    mom.config.write_text(folders + "plugins: {sim: {guests: 2}, balloon: {}}\n")
    state = mom.directory / "state"
    state.mkdir()
    long = "a-customer-whose-name-is-longer-than-a-column-of-a-table"
    named = [{"scope": "guest", "id": "u1", "name": name, "control": "balloon_target"} for name in ("kundin-ü", long)]
    (state / "ledger.json").write_text(json.dumps({"version": 1, "content": named}))
    (state / "ledger.json.damaged-1").write_text('{"version":1,"entries":[{"scope":"guest","id":"u3","name":"cut-off","control":"ba')
    report = mom.directory / "report.tar.gz"
    names = [row["name"] for row in json.loads(mom("guests", "--json").stdout)]
    assert names
    assert mom("bugreport", "--anonymous", "-o", str(report)).returncode == 0
    text = "".join(contents(report).values())
    for name in (*names, "kundin", long[:29], "cut-off"):
        assert name not in text


def test_it_is_whole_or_not_there(mom: Mom) -> None:
    done = mom("bugreport", "-o", str(mom.directory / "no/such/folder/report.tar.gz"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    target = mom.directory / "elsewhere"
    (mom.directory / "link.tar.gz").symlink_to(target)
    assert mom("bugreport", "-o", str(mom.directory / "link.tar.gz")).returncode == 1
    assert not target.exists()
