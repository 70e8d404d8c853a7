"""The fields that the plugin collects."""

from __future__ import annotations

from typing import Final

from mom_guests import AUTODEFLATE, PERIOD, REPORTING, guest_fields, host_fields

_DESCRIBED: Final = {
    **dict.fromkeys((PERIOD, REPORTING, AUTODEFLATE), "the domain XML"),
    "balloon.maximum": "balloon.maximum less unplugged virtio-mem",
}


def _source(record: str) -> str:
    return f"libvirt {_DESCRIBED.get(record, record)}"


GUEST_FIELDS = guest_fields(_source)
HOST_FIELDS = host_fields(_source)
