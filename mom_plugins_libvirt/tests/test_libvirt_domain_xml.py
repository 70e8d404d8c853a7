"""What a guest's description says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_libvirt.domain_xml import Description, described


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        ("<memballoon model='virtio'><stats period='5'/></memballoon>", Description("virtio", 5)),
        ("<memballoon model='virtio' autodeflate='on'><alias name='balloon0'/></memballoon>", Description("virtio", 0)),
        ("<memballoon model='virtio-non-transitional'><stats period='1'/></memballoon>", Description("virtio-non-transitional", 1)),
        ("<memballoon model='none'/>", Description("", 0)),
        ("", Description("", 0)),
        ("<memballoon model='virtio'><stats period='-1'/></memballoon>", Description("virtio", 0)),
        ("<memballoon model='virtio'><stats period='²'/></memballoon>", Description("virtio", 0)),
        ("<memballoon model='virtio'><stats period='99999999999999999999'/></memballoon>", Description("virtio", 0)),
    ],
)
def test_the_balloon_device_and_the_statistics_period_are_found(devices: str, wanted: Description) -> None:
    name = "<name>&lt;memballoon model='none'/&gt;</name>"
    assert described(f"<domain type='kvm' id='3'>{name}<devices><disk/>{devices}</devices></domain>") == wanted


@given(st.text())
def test_no_text_raises(text: str) -> None:
    described(text)


def test_what_is_no_xml_is_unknown() -> None:
    assert described("<domain>") is None
