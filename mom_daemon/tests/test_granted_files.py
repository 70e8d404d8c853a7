"""`mom config grant`: a mom that is not root reads what root keeps for it."""

import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from mom_daemon.cli.frame import run

YAML = """plugins:
  policy: {{file: {here}/mine.policy, directory: {here}/policy.d}}
  http:
    tcp: {{listen: "127.0.0.1:8132", certificate: {here}/cert.pem, key: {here}/key.pem}}
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to groups")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mom.yaml").write_text(YAML.format(here=tmp_path))
    (tmp_path / "mom.yaml").chmod(0o600)
    (tmp_path / "policy.d").mkdir(mode=0o700)
    for name, mode in (
        ("mine.policy", 0o644),
        ("cert.pem", 0o644),
        ("key.pem", 0o600),
        ("policy.d/a.policy", 0o600),
        ("policy.d/notes.txt", 0o600),
        ("other", 0o600),
    ):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o700)
    return tmp_path


def test_all_that_a_configuration_names_can_be_read_and_nothing_else(folder: Path) -> None:
    group = pwd.getpwnam("nobody").pw_gid
    assert run(["config", "grant", "nobody", "-c", str(folder / "mom.yaml")]) == 0
    found = {path.relative_to(folder).as_posix(): path.stat() for path in sorted(folder.rglob("*"))}
    assert {
        (one.st_uid, one.st_gid == group, oct(stat.S_IMODE(one.st_mode)))
        for name, one in found.items()
        if name in {"mine.policy", "cert.pem"}
    } == {(0, False, "0o644")}
    assert (found["other"].st_gid, stat.S_IMODE(found["other"].st_mode)) == (0, 0o600)
    for name in ("mom.yaml", "key.pem", "policy.d/a.policy"):
        assert (found[name].st_uid, found[name].st_gid, stat.S_IMODE(found[name].st_mode)) == (0, group, 0o640), name
    assert (found["policy.d"].st_gid, stat.S_IMODE(found["policy.d"].st_mode)) == (group, 0o750)
    assert (found["policy.d/notes.txt"].st_gid, stat.S_IMODE(found["policy.d/notes.txt"].st_mode)) == (0, 0o600)
    passed = folder.stat()
    assert (passed.st_gid, stat.S_IMODE(passed.st_mode)) == (group, 0o710), "it is passed through, and need not be listed"


def test_a_home_stays_closed(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and scripts in it, which every user could read but for that, stay root's alone."""
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.struct_passwd(("root", "x", 0, 0, "", str(folder), "/bin/sh"))])
    assert run(["config", "grant", "nobody", "-c", str(folder / "mom.yaml")]) == 0
    status = folder.stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0o700)
    assert f"{folder}: it is the home of root: move the configuration or its policies to /etc/mom" in capsys.readouterr().err


def test_a_folder_on_the_way_that_is_closed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """As that of a certificate, where another program keeps its own keys, too: it stays as it is."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:  # pytest's own folder is closed itself
        here = Path(made)
        here.chmod(0o755)
        (here / "live").mkdir()
        for name in ("live/key.pem", "cert.pem", "mine.policy"):
            (here / name).write_text("")
        (here / "key.pem").symlink_to(here / "live/key.pem")
        (here / "policy.d").mkdir()
        (here / "mom.yaml").write_text(YAML.format(here=here))
        assert run(["config", "grant", "nobody", "-c", str(here / "mom.yaml")]) == 0
        assert capsys.readouterr().err == ""
        (here / "live").chmod(0o700)
        assert run(["config", "grant", "nobody", "-c", str(here / "mom.yaml")]) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert f"{here}/live: nobody has no search permission (x) on this folder, and cannot reach {here}/key.pem" in told
        assert told.count("no search permission") == 1
        assert stat.S_IMODE((here / "live").stat().st_mode) == 0o700


def test_what_another_user_could_have_put_there_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(folder / "key.pem", 1, 1)
    assert run(["config", "grant", "nobody", "-c", str(folder / "mom.yaml")]) == 0
    assert (folder / "key.pem").stat().st_gid == 1
    assert "belongs to the user 1" in capsys.readouterr().err


def test_what_is_shared_with_another_group_stays_so_and_may_be_read_by_its_members(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As keys of the group ssl-cert: other services of that group read them, too."""
    shared = grp.getgrnam("daemon").gr_gid
    os.chown(folder / "key.pem", 0, shared)
    (folder / "key.pem").chmod(0o640)
    grant = ["config", "grant", "nobody", "-c", str(folder / "mom.yaml")]
    assert run(grant) == 0
    assert "belongs to the group daemon: usermod --append --groups daemon nobody" in capsys.readouterr().err
    monkeypatch.setattr(os, "getgrouplist", lambda user, group: [group, shared])
    assert run(grant) == 0
    assert "key.pem" not in capsys.readouterr().err
    status = (folder / "key.pem").stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (shared, 0o640)


def test_a_user_that_there_is_not_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "grant", "nosuch", "-c", str(folder / "mom.yaml")]) == 1
    assert "there is no user nosuch" in capsys.readouterr().err
