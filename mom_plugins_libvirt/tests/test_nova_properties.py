"""nova's metadata as properties of guests."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from nova_instances import NEW, domain

from mom_core import PluginContext, PluginSettings
from mom_kvm import GuestDescription, GuestPlatform, PlatformProperties
from mom_plugins_libvirt import NovaPlugin

NOVA = NovaPlugin(PluginSettings(), PluginContext())


def properties(metadata: str) -> dict[str, str]:
    """Return the properties of a guest, within a hypervisor's limits."""
    context = PluginContext(offers={GuestPlatform: (NOVA,)})
    return PlatformProperties(context).of(GuestDescription(domain=ElementTree.fromstring(domain(metadata))))  # noqa: S314  # our own text


def test_a_new_instance_has_flavor_project_user_and_its_owners_name() -> None:
    assert properties(NEW) == {
        "display_name": "shop-db",
        "flavor": "m1.large",
        "flavor_id": "4f0d6b9e-52a1-4c7a-8d3e-2b1f5a90c6d7",
        "project": "acme",
        "project_id": "9c1d2e3f40516273849506a7b8c9d0e1",
        "user": "alice",
        "user_id": "0b7c1f2e3d4a5968877665544332211f",
    }


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        '<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"/>',
        '<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/>',
        '<instance xmlns="http://example.com"><flavor name="m1.large"/></instance>',
    ],
)
def test_a_guest_of_which_nova_says_nothing_has_nothing(metadata: str) -> None:
    assert properties(metadata) == {}
    assert NOVA.properties(GuestDescription(options={"name": "web"})) == {}


def test_what_a_tenant_writes_is_text_and_bounded() -> None:
    name = "&lt;b&gt;flavor=m1.xlarge " + "x" * 5000
    found = properties(NEW.replace("shop-db", name))
    assert (found["flavor"], len(found["display_name"])) == ("m1.large", 256)
    assert found["display_name"].startswith("<b>flavor=m1.xlarge xx")


@pytest.mark.parametrize("sign", ["var/lib/nova/instances", "etc/kolla/nova-compute", "etc/nova/nova.conf"])
def test_a_first_configuration_has_it_on_a_host_of_nova(tmp_path: Path, sign: str) -> None:
    assert NovaPlugin.mom_suggest(tmp_path) is None
    (tmp_path / sign).mkdir(parents=True)
    suggestion = NovaPlugin.mom_suggest(tmp_path)
    assert suggestion is not None
    assert sign in suggestion.reason
