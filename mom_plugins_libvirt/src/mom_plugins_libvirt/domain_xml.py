"""What only a guest's description tells: whether it has a balloon device, and how often libvirt reads the guest's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree


@dataclass(frozen=True, slots=True)
class Description:
    """`balloon` is the device's model, empty where the guest has none; `stats_period` is in seconds, 0 where statistics are off."""

    balloon: str
    stats_period: int


def described(xml: str) -> Description | None:
    """What this domain XML says; None if it cannot be understood."""
    try:
        balloon = ElementTree.fromstring(xml).find("devices/memballoon")  # noqa: S314  # libvirtd wrote it, whom mom trusts with everything
    except ElementTree.ParseError:
        return None
    if balloon is None:
        return Description("", 0)
    model = balloon.get("model", "")
    stats = balloon.find("stats")
    return Description("" if model == "none" else model, _seconds(stats.get("period") if stats is not None else None))


def _seconds(text: str | None) -> int:
    return int(text) if text and len(text) < 12 and text.isascii() and text.isdigit() else 0
