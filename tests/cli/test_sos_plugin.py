"""`sos report` with mom's plugin for it: the real sos, with a copy of its modules, so that nothing is installed for the test."""

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
    """What `sos report` with this plugin alone has collected, by the paths in its archive."""
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


def report_of(found: dict[str, str]) -> str:
    (text,) = (text for name, text in found.items() if name == "sos_commands/mom/mom_bugreport")
    return text


def test_it_collects_what_mom_says_and_no_secret(mom: Mom) -> None:
    mom.configure("merge: {}", 'secretive: {password: "s3cret-password"}')
    process = mom.act()
    mom.wait_for((mom.directory / "run/status.json").exists)
    found = collected(mom)
    text = report_of(found)
    for part in ("===== versions.txt\nmom ", "===== config.txt\n", "interval", f'"pid": {process.pid}', "KSM", "ksm_run"):
        assert part in text
    assert not [name for name, text in found.items() if "s3cret-password" in text]


def test_it_changes_nothing_and_collects_what_there_is_while_mom_does_not_run(mom: Mom) -> None:
    before = {path: path.read_bytes() for path in sorted(mom.directory.rglob("*")) if path.is_file()}
    found = collected(mom)
    assert "ksm" in report_of(found)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not (mom.directory / "state").exists()
