"""mom's plugin in the real `sos report`, with a copy of sos's modules."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from mom_on_files import MOM, Mom

PLUGIN = Path(__file__).parents[2] / "packaging/sos/mom.py"
SOS = Path("/usr/lib/python3/dist-packages/sos")

pytestmark = pytest.mark.skipif(
    (not SOS.is_dir() or os.geteuid() != 0) and os.environ.get("MOM_REQUIRE_REAL") != "1", reason="no sos, or not root"
)


def collected(mom: Mom) -> dict[str, str]:
    """Return the files that `sos report` collected with this plugin alone, keyed by path."""
    folder = mom.directory / "sos-modules"
    shutil.copytree(SOS, folder / "sos")
    text = PLUGIN.read_text()
    assert '"/opt/mom/bin/mom"' in text
    text = text.replace("/opt/mom/bin/mom", str(MOM))
    (folder / "sos/report/plugins/mom.py").write_text(text)
    out = mom.directory / "sos-out"
    out.mkdir()
    done = subprocess.run(
        ["/usr/bin/python3", shutil.which("sos") or "/usr/bin/sos", "report", "--batch", "-o", "mom", "--tmp-dir", out],
        cwd=folder,  # first on the path of sos
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


def of_verb(found: dict[str, str], name: str) -> str:
    (text,) = (text for path, text in found.items() if path == f"sos_commands/mom/mom_{name}")
    return text


def test_it_collects_state_and_settings_and_no_secret(mom: Mom) -> None:
    mom.configure("merge: {}", 'secretive: {password: "s3cret-password"}')
    process = mom.act()
    mom.wait_for((mom.directory / "run/status.json").exists)
    found = collected(mom)
    assert of_verb(found, "version").startswith("mom ")
    assert "interval" in of_verb(found, "settings")
    assert f'"pid": {process.pid}' in of_verb(found, "status")
    assert "ksm_run" in of_verb(found, "to_put_back")
    assert not [name for name, text in found.items() if "s3cret-password" in text]


def test_it_changes_nothing_and_works_while_mom_does_not_run(mom: Mom) -> None:
    before = {path: path.read_bytes() for path in sorted(mom.directory.rglob("*")) if path.is_file()}
    found = collected(mom)
    assert "merge" in of_verb(found, "plugins")
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not (mom.directory / "state").exists()
