"""Importer that converts Proxmox VE's guest files to guarantees and classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mom_core import ConfigError, ConfigProblem, GuestPattern, printable
from mom_daemon import Imported, Importer
from mom_plugins_qemu.proxmox import (
    DEFAULT_MEMORY_MIB,
    MOST_MIB,
    MOST_SHARES,
    ORDINARY_SHARES,
    Option,
    class_of,
    current_mib,
    options_in,
    tags_in,
    whole,
)


def import_proxmox(texts: Mapping[str, str]) -> Imported:
    """Convert guest files to mom's section `guests`.

    :param texts: texts of the files, keyed by path
    :raises ConfigError: with all errors of all files
    """
    imported = Imported(
        "Made by `mom config import --from proxmox`. On the node itself, the qemu plugin also reads the guests' files, and these "
        "guarantees override theirs. On another host, give the guests the same names. "
        "Proxmox VE takes memory from guests while more than 80 % of the host's memory is used; mom's default policy decides according "
        "to the available memory that the kernel reports."
    )
    imported.plugin("host")
    imported.plugin("qemu", "or libvirt, if the guests move to a host with libvirt").set("sockets", ["/run/qemu-server/*.qmp"])
    imported.plugin("balloon", "`balloon:` of the guests' files")
    imported.plugin("policy").set("directory", "/etc/mom/policy.d")
    problems: list[ConfigProblem] = []
    shares: dict[str, int] = {}
    promises: dict[str, int] = {}
    for file, text in texts.items():
        _guest(imported, file, text, shares, promises, problems)
    if problems:
        raise ConfigError(sorted(problems))
    for pattern, section in imported.guests.items():
        if len(section.why) > 1:
            imported.notes.append(
                f"{printable(' and '.join(section.why), 1000)} have the same name {printable(pattern, 60)}: each gets the largest of "
                "their guarantees here, until their names differ"
            )
    if shares:
        shares_text = ", ".join(f"{name} {share} ({share / ORDINARY_SHARES:g})" for name, share in shares.items())
        imported.notes.append(
            f"shares: {printable(shares_text, 1000)}: in brackets, the cost of taking memory from the guest (reclaim_cost; 1: normal). "
            "On the node itself, the qemu plugin reads it from the guests' files; on another host, set it in a class of the sla plugin"
        )
    return imported


def _guest(
    imported: Imported, file: str, text: str, shares: dict[str, int], promises: dict[str, int], problems: list[ConfigProblem]
) -> None:
    options, odd = options_in(text)
    for line, written in odd:
        problems.append(
            ConfigProblem(file, line, 1, f"{printable(written, 60)} is not a valid line of a guest's file", "write `name: value`")
        )

    def number(name: str, read: Callable[[str], int | None], most: int, default: int) -> int:
        line, written = options.get(name, Option(0, ""))
        value = read(written) if line else default
        if value is None:
            message = f"{name}: {printable(written, 40)} is not a whole number up to {most}" if written else f"{name} has no value"
            problems.append(ConfigProblem(file, line, 1, message))
        return default if value is None else value

    vmid = re.sub(r"\.conf$", "", file.rpartition("/")[2])
    unnamed = f"vm{vmid}" if vmid.isdigit() else vmid  # Proxmox VE's default name
    name = options.get("name", Option(0, "")).text or unnamed
    memory = number("memory", current_mib, MOST_MIB, DEFAULT_MEMORY_MIB)
    balloon = number("balloon", lambda written: whole(written, MOST_MIB), MOST_MIB, memory)
    share = number("shares", lambda written: whole(written, MOST_SHARES), MOST_SHARES, ORDINARY_SHARES)
    if balloon > memory:
        message = f"balloon: {balloon} is more than memory, which is {memory}"
        problems.append(ConfigProblem(file, options["balloon"].line, 1, message))
    pattern = GuestPattern.of_name(name)
    section = imported.guest(pattern)
    section.why.append(file)
    if "balloon" in options and balloon == 0:
        promised, reason = memory, f"memory: {memory}, balloon: 0: no balloon, so all memory is guaranteed"
    elif balloon < memory:
        promised, reason = balloon, f"balloon: {balloon}, of memory: {memory}"
    else:
        promised, reason = memory, f"memory: {memory}, a fixed size; with a smaller guarantee, mom may take the rest"
    if promised > promises.get(pattern, -1):
        promises[pattern] = promised
        section.set("guarantee", f"{promised}MiB", reason)
    if "shares" in options and share != 0:  # 0 only disables pvestatd, as mom requires
        shares[name] = share
    tags = options.get("tags", Option(0, "")).text
    if named := class_of(tags_in(tags)):
        imported.plugin("sla", "classes from the guests' tags; define your own classes in this plugin")
        section.set("class", named, f"tags: {tags}")


def importers() -> list[Importer]:
    """Return the importers of `mom config import`."""
    return [Importer("proxmox", "guests of Proxmox VE, /etc/pve/qemu-server or files in it", import_proxmox, several="*.conf")]
