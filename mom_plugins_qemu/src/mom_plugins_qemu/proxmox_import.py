"""Proxmox VE's guest files (/etc/pve/qemu-server/*.conf): memory, balloon and shares as what mom promises to guests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mom_cli import Imported, ImportedSection, Importer
from mom_core import ConfigError, ConfigProblem, printable

_LINE: Final = re.compile(r"([A-Za-z][\w-]*):\s*(.*?)\s*")
_GLOB: Final = re.compile(r"([*?\[])")
DEFAULT_MEMORY_MIB: Final = 512
DEFAULT_SHARES: Final = 1000


def import_proxmox(texts: Mapping[str, str]) -> Imported:
    """Turn guest files into mom's section `guests`.

    :param texts: the files' texts by path; the name of a guest without one is taken from the file's name
    :raises ConfigError: with everything that is wrong
    """
    imported = Imported(
        "Made by `mom config import --from proxmox`. On the node itself, the plugin qemu reads the guests' files, and these "
        "guarantees hold against them; where the guests go elsewhere, give them the same names there. "
        "Proxmox VE begins to take memory from guests when 80 % of the host's is used, and stops there; mom's default policy decides by "
        "what the kernel says is available."
    )
    imported.plugin("host")
    imported.plugin("qemu", "or libvirt, where the guests go there").set("sockets", ["/run/qemu-server/*.qmp"])
    imported.plugin("balloon", "what `balloon:` said in the guests' files")
    imported.plugin("policy").set("directory", "/etc/mom/policy.d")
    problems: list[ConfigProblem] = []
    shares: dict[str, int] = {}
    for file, text in texts.items():
        _guest(imported, file, text, shares, problems)
    if problems:
        raise ConfigError(sorted(problems))
    if shares:
        told = ", ".join(f"{name} {share}" for name, share in shares.items())
        imported.notes.append(
            f"shares: {printable(told, 1000)}: mom has no such weights; it takes memory where guests have most to spare, and "
            "never more than their guarantee allows"
        )
    return imported


def _guest(imported: Imported, file: str, text: str, shares: dict[str, int], problems: list[ConfigProblem]) -> None:
    options: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if line.startswith("["):
            break  # snapshots, and changes that are not in force yet
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(ConfigProblem(file, number, 1, f"{printable(line, 60)} is no line of a guest's file", "write `name: value`"))
        else:
            options[match[1]] = (number, match[2])
    vmid = re.sub(r"\.conf$", "", file.rpartition("/")[2])
    name = options.get("name", (0, vmid))[1] or vmid
    memory = _mib(file, "memory", options, problems, DEFAULT_MEMORY_MIB)
    balloon = _mib(file, "balloon", options, problems, memory)
    share = _number(file, "shares", options, problems, DEFAULT_SHARES, 50_000)
    if balloon > memory:
        problems.append(ConfigProblem(file, options["balloon"][0], 1, f"balloon: {balloon} is more than memory, which is {memory}"))
    section = imported.guests.setdefault(_GLOB.sub(r"[\1]", name), ImportedSection())
    if "balloon" in options and balloon == 0:
        section.set("guarantee", f"{memory}MiB", f"memory: {memory}, balloon: 0: no balloon, so all of it")
    elif balloon < memory:
        section.set("guarantee", f"{balloon}MiB", f"balloon: {balloon}, of memory: {memory}")
    else:
        section.set("guarantee", f"{memory}MiB", f"memory: {memory}, which was fixed; a smaller guarantee lets mom take the rest")
    section.why.append(file)
    if "shares" in options:
        if share == 0:
            section.set("guarantee", f"{memory}MiB", f"memory: {memory}, shares: 0: never shrunk by Proxmox VE")
        else:
            shares[name] = share


def _mib(file: str, name: str, options: Mapping[str, tuple[int, str]], problems: list[ConfigProblem], default: int) -> int:
    """A size in MiB; newer files write it as `current=4096`."""
    line, text = options.get(name, (0, str(default)))
    plain = dict(part.partition("=")[::2] for part in text.split(",")).get("current", text)
    return _number(file, name, {name: (line, plain)}, problems, default, 1 << 26)


def _number(file: str, name: str, options: Mapping[str, tuple[int, str]], problems: list[ConfigProblem], default: int, most: int) -> int:
    line, text = options.get(name, (0, str(default)))
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
        problems.append(ConfigProblem(file, line, 1, f"{name}: {printable(text or 'nothing', 40)} is no whole number up to {most}"))
        return default
    return int(text)


PROXMOX: Final = Importer("proxmox", "guests of Proxmox VE, /etc/pve/qemu-server or files in it", import_proxmox, several="*.conf")
