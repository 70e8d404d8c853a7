"""What only a guest's description tells: its balloon device, how often libvirt reads the guest's statistics, agent channels, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

from mom_plugins_libvirt.agents import NO_CHANNELS, channels_of
from mom_plugins_libvirt.tuning_xml import UNTUNED, Tuning, tuning_of


@dataclass(frozen=True, slots=True)
class Description:
    """`balloon` is the device's model, empty where the guest has none; `stats_period` is in seconds, 0 where statistics are off.

    `channels` are those to agents, by name, with the paths of their sockets.
    """

    balloon: str
    stats_period: int
    channels: Mapping[str, str] = field(default_factory=lambda: NO_CHANNELS)
    tuning: Tuning = UNTUNED


def described(xml: str) -> Description | None:
    """What this domain XML says; None if it cannot be understood."""
    try:
        domain = ElementTree.fromstring(xml)  # noqa: S314  # libvirtd wrote it, whom mom trusts with everything
    except ElementTree.ParseError:
        return None
    devices = domain.find("devices")
    channels, tuning = channels_of(devices), tuning_of(domain)
    balloon = None if devices is None else devices.find("memballoon")
    if balloon is None:
        return Description("", 0, channels, tuning)
    model = balloon.get("model", "")
    stats = balloon.find("stats")
    return Description("" if model == "none" else model, _seconds(stats.get("period") if stats is not None else None), channels, tuning)


def _seconds(text: str | None) -> int:
    return int(text) if text and len(text) < 12 and text.isascii() and text.isdigit() else 0
