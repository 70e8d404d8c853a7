"""Looking for a process by its name in /proc."""

from __future__ import annotations

from pathlib import Path


def process_folders(proc: Path) -> list[Path]:
    """The folders of all processes, by rising process id, so that the kernel's own threads come early; empty when /proc is unreadable."""
    try:
        folders = [folder for folder in proc.iterdir() if folder.name.isascii() and folder.name.isdigit()]
    except OSError:
        return []
    return sorted(folders, key=lambda folder: int(folder.name))


def pid_of(name: str, proc: Path) -> int:
    """The lowest id of a process with that name, of at most 15 characters as the kernel keeps it; 0 when there is none."""
    for folder in process_folders(proc):
        try:
            if (folder / "comm").read_bytes().rstrip(b"\n") == name.encode():
                return int(folder.name)
        except OSError:  # it has ended between the two calls
            continue
    return 0
