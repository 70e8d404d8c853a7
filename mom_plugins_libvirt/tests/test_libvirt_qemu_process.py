"""QEMU process of a guest."""

from pathlib import Path

import pytest

from mom_plugins_libvirt.plugin import pid_of

UUID = "c0c1f094-e0eb-461c-82d5-fd2a0fe0d115"


def process(proc: Path, pid: int, uuid: str = UUID) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"\0".join([b"qemu-system-x86_64", b"-name", b"guest=x", b"-uuid", uuid.encode(), b""]))


def pid_file(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pid").write_text(text)


def test_another_guests_process_does_not_count(tmp_path: Path) -> None:
    process(tmp_path / "proc", 4711, "another")
    pid_file(tmp_path / "run", "web", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", "web", UUID) is None
    assert pid_of(tmp_path / "run", tmp_path / "proc", "none", UUID) is None


@pytest.mark.parametrize("name", ["../evil", "/evil", "..", ".", "", "x\0y", "n" * 5000, "\ud800"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    process(tmp_path / "proc", 4711)
    pid_file(tmp_path, "evil", "4711")
    pid_file(tmp_path / "run", "web", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", name, UUID) is None
