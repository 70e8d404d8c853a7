"""Importer that converts Proxmox VE's guest files to guarantees and classes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mom_core import ConfigError, ConfigProblem, GuestPattern, printable
from mom_daemon import Imported, Importer
from mom_plugins_qemu.proxmox import LARGEST, ORDINARY_SHARES, GuestDefinition, number_in, options_in, parsed


def import_proxmox(texts: Mapping[str, str]) -> Imported:
    """Convert guest files to mom's section `guests`.

    :param texts: texts of the files, keyed by path
    :raises ConfigError: with all errors of all files
    """
    imported = Imported(
        "Made by `mom config import --from proxmox`. On the node itself, the qemu plugin also reads the guests' files, and these "
        "guarantees override those in the files. On another host, give the guests the same names. "
        "Proxmox VE takes memory from guests while more than 80 % of the host's memory is used; mom's default policy decides according "
        "to the available memory that the kernel reports."
    )
    imported.plugin("host")
    imported.plugin("qemu", "use libvirt instead if the guests move to a host with libvirt").set("sockets", ["/run/qemu-server/*.qmp"])
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
                "their guarantees, until you rename them"
            )
    if shares:
        shares_text = ", ".join(f"{name} {share} ({share / ORDINARY_SHARES:g})" for name, share in shares.items())
        imported.notes.append(
            f"shares: {printable(shares_text, 1000)}. In brackets: the cost of taking memory from the guest (reclaim_cost; 1: normal). "
            "On the node itself, the qemu plugin reads the cost from the guests' files; elsewhere, set it in a class of the sla plugin"
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

    for option, most in LARGEST.items():
        if option in options and number_in(option, options[option].text) is None:
            line, written = options[option]
            problems.append(ConfigProblem(file, line, 1, f"{option}: {printable(written, 40)} is not a whole number up to {most}"))
    definition = parsed(text) or GuestDefinition()
    vmid = re.sub(r"\.conf$", "", file.rpartition("/")[2])
    name = definition.name or (f"vm{vmid}" if vmid.isdigit() else vmid)  # Proxmox VE's default name
    memory, balloon = definition.assigned_mib, definition.assigned_mib if definition.balloon_mib is None else definition.balloon_mib
    if balloon > memory:
        message = f"balloon: {balloon} is more than memory: {memory}"
        problems.append(ConfigProblem(file, options["balloon"].line, 1, message))
    pattern = GuestPattern.of_name(name)
    section = imported.guest(pattern)
    section.why.append(file)
    if definition.balloon_mib == 0:
        promised, reason = memory, f"memory: {memory}, balloon: 0: no balloon, so all memory is guaranteed"
    elif balloon < memory:
        promised, reason = balloon, f"balloon: {balloon}, of memory: {memory}"
    else:
        promised, reason = memory, f"memory: {memory}, a fixed size; with a smaller guarantee, mom may take the rest"
    if promised > promises.get(pattern, -1):
        promises[pattern] = promised
        section.set("guarantee", f"{promised}MiB", reason)
    if "shares" in options and definition.shares:  # 0 only disables pvestatd, as mom requires
        shares[name] = definition.shares
    if definition.sla_class:
        imported.plugin("sla", "classes from the guests' tags; define your own classes in this plugin")
        section.set("class", definition.sla_class, f"tags: {options['tags'].text}")


def importers() -> list[Importer]:
    """Return the importers of `mom config import`."""
    return [Importer("proxmox", "guests of Proxmox VE: /etc/pve/qemu-server or files in it", import_proxmox, several="*.conf")]
