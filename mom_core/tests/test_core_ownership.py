"""Files of another user do not control mom's actions, files or secrets."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mom_core import ConfigError, MomError, load_config, read_secret, untrusted
from mom_core.ledger import Ledger
from mom_core.lock import RunLock

OTHER = 12345
OTHERS = f"{{}} belongs to the user {OTHER}"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "etc/mom.yaml"
    path.parent.mkdir()
    path.write_text("plugins: {host: {}}\n")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    ("spoil", "mend", "why"),
    [
        (lambda config: config.chmod(0o664), lambda config: config.chmod(0o644), "mom.yaml can be written by its group"),
        (lambda config: config.chmod(0o666), lambda config: config.chmod(0o644), "mom.yaml can be written by everybody"),
        (lambda config: config.parent.chmod(0o777), lambda config: config.parent.chmod(0o1777), "etc can be written by everybody"),
        pytest.param(
            lambda config: os.chown(config, OTHER, 0), lambda config: os.chown(config, 0, OTHER), OTHERS.format("mom.yaml"), marks=as_root
        ),
    ],
)
def test_a_configuration_writable_for_others_is_refused(
    config: Path, spoil: Callable[[Path], None], mend: Callable[[Path], None], why: str
) -> None:
    spoil(config)
    with pytest.raises(ConfigError, match=why) as caught:
        load_config(config)
    assert caught.value.problems[0].message.startswith("not used: ")
    assert caught.value.problems[0].hint == "other users could control mom through it: use `chown root` and `chmod go-w`"
    mend(config)
    load_config(config)


def looking(path: Path, *, owner: int | None = None, mode: int | None = None) -> Callable[[str], os.stat_result]:
    """Return a substitute for `lstat` with another owner or mode for one path."""

    def look(name: str) -> os.stat_result:
        found = list(os.lstat(name))
        if name == str(path):
            found[stat.ST_UID] = found[stat.ST_UID] if owner is None else owner
            found[stat.ST_MODE] = found[stat.ST_MODE] if mode is None else mode
        return os.stat_result(found)

    return look


def test_links_are_followed_and_everything_on_their_way_counts(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/../real")
    assert untrusted(tmp_path / "link/deep") == ""
    assert f"belongs to the user {OTHER}" in untrusted(tmp_path / "link/deep", looking(tmp_path / "real", owner=OTHER))
    assert f"belongs to the user {OTHER}" in untrusted(tmp_path / "link/deep", looking(tmp_path / "link", owner=OTHER))
    (tmp_path / "far").symlink_to(tmp_path / "link")
    assert untrusted(tmp_path / "far/deep") == ""
    for on_the_way in ("far", "link", "real", "real/deep"):
        assert f"belongs to the user {OTHER}" in untrusted(tmp_path / "far/deep", looking(tmp_path / on_the_way, owner=OTHER))
    (tmp_path / "round").symlink_to("round")
    assert "is a loop of symbolic links" in untrusted(tmp_path / "round")


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_folders_in_which_everybody_can_add_files_are_not_used(tmp_path: Path, mode: int) -> None:
    for setting, use in (("run_directory", lambda folder: RunLock(folder).take()), ("state_directory", Ledger.open)):
        folder = tmp_path / setting
        folder.mkdir()
        folder.chmod(mode)
        with pytest.raises(MomError, match="can be written by everybody") as caught:
            use(folder)
        assert setting in caught.value.hint


@pytest.mark.parametrize(
    ("mode", "group", "others"), [(0o600, False, ""), (0o640, True, ""), (0o640, False, "its group"), (0o604, True, "every user")]
)
def test_a_secret_is_read_only_where_other_users_have_no_access(tmp_path: Path, mode: int, group: bool, others: str) -> None:
    key = tmp_path / "key.pem"
    key.write_text("secret\n")
    key.chmod(mode)
    if not others:
        assert read_secret(key, "the key", "make one", group=group) == b"secret\n"
        return
    with pytest.raises(MomError, match=f"the key in {key} is not secret: {others} has access") as caught:
        read_secret(key, "the key", "make one", group=group)
    assert f"chmod 600 {key}" in caught.value.hint


def test_a_missing_secret_has_a_cure(tmp_path: Path) -> None:
    with pytest.raises(MomError, match="cannot be read: No such file") as caught:
        read_secret(tmp_path / "key", "the key", "make one")
    assert caught.value.hint == "make one"


READS = """
import os, sys
from mom_core import MomError, read_secret
import mom_core.files
from pathlib import Path
os.setgroups([])
os.setresgid(int(sys.argv[2]), int(sys.argv[2]), int(sys.argv[2]))
os.setresuid(12345, 12345, 12345)
try:
    sys.stdout.write(read_secret(Path(sys.argv[1]), "the key", "make one").decode())
except MomError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "said"),
    [
        (0, OTHER, 0o640, "secret"),
        (0, OTHER, 0o660, "is not secret: its group has access"),
        (0, OTHER, 0o644, "is not secret: every user has access"),
        (OTHER, OTHER, 0o640, "is not secret: its group has access"),
        (0, OTHER + 1, 0o640, "cannot be read"),
    ],
)
def test_roots_secret_may_be_readable_for_moms_group(owner: int, group: int, mode: int, said: str) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        key = Path(made) / "key"
        key.write_text("secret")
        os.chown(key, owner, group)
        key.chmod(mode)
        done = subprocess.run([sys.executable, "-c", READS, key, str(OTHER)], capture_output=True, text=True, timeout=60, check=True)
    assert said in done.stdout
