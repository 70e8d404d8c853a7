"""`mom bugreport`: what is in it, and what never is."""

import re
from pathlib import Path

from mom_on_files import Mom

from mom_core.plugins.secrets import MASK

PLANTED = ("s3cret-password", "tok-ABCDEF012345", "pw-in-uri", "from-the-token-file", "header-value-777", "query-token-9", "pem-body-line")


def made(mom: Mom, *options: str) -> tuple[str, dict[str, str], Path]:
    """What is printed, the parts of the report by name, and the report."""
    path = mom.directory / "report.txt"
    done = mom("bugreport", "-o", str(path), *options)
    assert done.returncode == 0, done.stderr
    about, *parts = re.split(r"^===== (\S+)\n", path.read_text(), flags=re.M)
    return done.stdout + done.stderr, {"about": about, **dict(zip(parts[::2], parts[1::2], strict=True))}, path


def test_it_holds_what_helps_says_what_that_is_and_has_no_secret(mom: Mom) -> None:
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
    process = mom.act()
    mom.wait_for((mom.directory / "run/status.json").exists)
    printed, found, report = made(mom)
    assert report.stat().st_mode & 0o777 == 0o600
    assert f'"pid": {process.pid}' in found["status.json"]
    assert '"control":"ksm_run"' in found["ledger.json"].replace(" ", "")
    assert f'"pid": {process.pid}' in found["lock.txt"]
    assert "log_level" in found["config.txt"]
    assert "ksm" in found["doctor.txt"]
    assert "MemAvailable: 2097152 kB" in found["host.txt"]
    assert "sys/kernel/mm/ksm/run\n1" in found["host.txt"]
    assert found["versions.txt"].startswith("mom ")
    assert all(name in found["about"] and name in printed for name in found.keys() - {"about"})
    for name, text in {**found, "what is printed": printed}.items():
        for secret in PLANTED:
            assert secret not in text, (name, secret)
    assert "refused" in found["status.json"], "the plugin's error is there, without what it talked of"
    assert MASK in found["status.json"]
    assert "secretive" in found["config.txt"]
    assert str(token) in found["config.txt"], "where a secret is kept is none"


def test_a_file_that_was_broken_under_a_mom_that_runs_takes_nothing_out_of_it(mom: Mom) -> None:
    mom.configure("merge: {}", "secretive: {password: s3cret-password}")
    process = mom.act()
    mom.wait_for((mom.directory / "run/status.json").exists)
    mom.config.write_text(mom.config.read_text() + "  bad: [\n")
    _, found, report = made(mom)
    assert f'"pid": {process.pid}' in found["status.json"]
    assert '"control":"ksm_run"' in found["ledger.json"].replace(" ", "")
    assert f"{mom.config}:" in found["config.txt"]
    assert "s3cret-password" not in report.read_text()


def test_a_broken_configuration_and_no_mom_are_what_it_is_for(mom: Mom) -> None:
    mom.config.write_text("interval: 5\nplugins: {nobody: {password: s3cret-password}}\n")
    _, found, _ = made(mom)
    assert "nobody" in found["config.txt"]
    assert "s3cret-password" not in "".join(found.values())


def test_it_is_whole_or_not_there_and_replaces_nothing(mom: Mom) -> None:
    done = mom("bugreport", "-o", str(mom.directory / "no/such/folder/report.txt"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    target = mom.directory / "elsewhere"
    (mom.directory / "link.txt").symlink_to(target)
    done = mom("bugreport", "-o", str(mom.directory / "link.txt"))
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert not target.exists()
