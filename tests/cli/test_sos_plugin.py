"""`sos report` with mom's plugin for it: the real sos, with a copy of its modules, so that nothing is installed for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Mom

PLUGIN = Path(__file__).parents[2] / "packaging/sos/mom.py"
SOS = Path("/usr/lib/python3/dist-packages/sos")
PLANTED = ("s3cret-password", "tok-ABCDEF012345", "pw-in-uri", "header-value-777", "query-token-9", "pem-body-line", "damaged-token")

pytestmark = pytest.mark.skipif(
    (not SOS.is_dir() or os.geteuid() != 0) and os.environ.get("MOM_REQUIRE_REAL") != "1",
    reason="no sos, or not root",
)


def collected(mom: Mom) -> dict[str, str]:
    """What `sos report` with this plugin alone has collected, by the paths in its archive."""
    folder = mom.directory / "sos-modules"
    shutil.copytree(SOS, folder / "sos")
    text = PLUGIN.read_text()
    for there, here in (
        ("/opt/mom/bin/mom", Path(sys.executable).with_name("mom")),
        ("/var/lib/mom", mom.directory / "state"),
        ("/run/mom", mom.directory / "run"),
    ):
        assert f'"{there}"' in text
        text = text.replace(there, str(here))
    (folder / "sos/report/plugins/mom.py").write_text(text)
    out = mom.directory / "sos-out"
    out.mkdir()
    done = subprocess.run(
        ["/usr/bin/python3", shutil.which("sos") or "/usr/bin/sos", "report", "--batch", "-o", "mom", "--tmp-dir", out],
        cwd=folder,  # where sos looks for its modules first
        capture_output=True,
        text=True,
        timeout=300,
        env={**mom.environment, "MOM_CONFIG": str(mom.config)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = out.glob("*.tar.?z")  # sos compresses with gzip where a host has no xz
    with tarfile.open(archive) as file:
        members = [(member.name.partition("/")[2], file.extractfile(member)) for member in file.getmembers() if member.isfile()]
        return {name: content.read().decode(errors="replace") for name, content in members if content is not None}


def said(found: dict[str, str], verb: str) -> str:
    (text,) = (text for name, text in found.items() if name.startswith("sos_commands/mom/") and name.endswith(f"mom_{verb}"))
    return text


def test_it_collects_what_mom_says_and_no_secret(mom: Mom) -> None:
    token = mom.directory / "token"
    token.write_text("tok-ABCDEF012345\n")
    mom.configure(
        "merge: {}",
        'secretive: {password: "s3cret-password", api_token: "tok-ABCDEF012345", '
        'uri: "qemu+tls://admin:pw-in-uri@host.example/system?auth_token=query-token-9", '
        f'token_file: "{token}", headers: {{Authorization: "Bearer header-value-777"}}}}',
    )
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.wait_for((mom.directory / "run/status.json").exists)
    pem = "-----BEGIN PRIVATE KEY-----\npem-body-line\n-----END PRIVATE KEY-----\n"
    (mom.directory / "state/ledger.json.damaged-1").write_text(f'{pem}{{"token": "damaged-token", "control": "ksm_run"}}')
    found = collected(mom)
    assert said(found, "--version").startswith("mom ")
    assert "interval" in said(found, "config_show")
    assert str(process.pid) in said(found, "status_--json")
    assert "KSM" in said(found, "doctor")
    assert any(name.endswith("state/ledger.json") and "ksm_run" in text for name, text in found.items())
    for name, text in found.items():
        for secret in PLANTED:
            assert secret not in text, (name, secret)


def test_it_changes_nothing_and_collects_what_there_is_while_mom_does_not_run(mom: Mom) -> None:
    before = {path: path.read_bytes() for path in sorted(mom.directory.rglob("*")) if path.is_file()}
    found = collected(mom)
    assert "ksm" in said(found, "plugin_list")
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not (mom.directory / "state").exists()
