"""Findings and suggested settings on a host of Apache CloudStack."""

from pathlib import Path

import pytest
from guest_facts import GIB

from mom_core import Declarations, FieldSpec, Guest, PluginContext, Scope, Severity, Unit, load_config
from mom_plugins_balloon import BalloonPlugin

AGENT = "etc/cloudstack/agent/agent.properties"


class Instances:
    """Hypervisor with guests: name to size, maximum, and maximum after plugging in memory (GiB)."""

    uri = "fake:///"

    def __init__(self, guests):
        self.sizes = guests
        self.error = None

    def guests(self):
        if self.error:
            raise self.error
        return [Guest(name, name, incarnation="1") for name in self.sizes]

    def fields(self, guests):
        names = ("balloon_cur", "balloon_max", "mem_plug_limit")
        return {
            guest.id: {name: int(gib * GIB) for name, gib in zip(names, self.sizes[guest.id], strict=False) if gib is not None}
            for guest in guests
            if guest.id in self.sizes
        }

    def set_balloon(self, guest, target_kib): ...

    def balloon_sizes(self, guests):
        return {}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return the root of a host with CloudStack's agent and KVM."""
    agent = tmp_path / AGENT
    agent.parent.mkdir(parents=True)
    agent.write_text("# Sample\nhypervisor.type=kvm\n#vm.memballoon.disable=true\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kvm").touch()
    return tmp_path


def findings(host, guests, wanted=None, by_class=False):
    """Return the findings about CloudStack with this section `guests`."""
    config = load_config({"plugins": {"sim": {}, "balloon": {}}, "guests": wanted or {}})
    spec = FieldSpec("mem_guarantee", Unit.KIB, Scope.GUEST, "by its class", "its class")
    context = PluginContext(
        "balloon", host, host / "state", guest_settings=config.guest_settings("balloon"), serves=False,
        declarations=Declarations(fields={(Scope.GUEST, "mem_guarantee"): spec} if by_class else {}),
    )  # fmt: skip
    hypervisor = guests if isinstance(guests, Instances) or guests is None else Instances(guests)
    all_findings = BalloonPlugin(BalloonPlugin.Settings(), context).mom_doctor(hypervisor)
    return [finding for finding in all_findings if finding.subject == "CloudStack"]


START = {"i-*-VM": {"guarantee": "start"}}


class TestFirstConfiguration:
    def test_instances_keep_their_start_size_and_system_vms_all_memory(self, host):
        suggestion = BalloonPlugin.mom_suggest(host)
        assert suggestion is not None
        assert suggestion.guests == {"i-*-VM": {"guarantee": "start"}, "[rsv]-*-VM": {"guarantee": "100%"}}
        assert "CloudStack" in suggestion.guests_reason
        settings = load_config({"plugins": {"sim": {}, "balloon": {}}, "guests": suggestion.guests}).guest_settings("balloon")
        names = ("i-2-7-VM", "r-4-VM", "s-1-VM", "v-2-VM", "web")
        promised = [settings(Guest(name, name)).model_dump_json() for name in names]
        assert promised == [f'{{"guarantee":{text}}}' for text in ('"start"', '"100%"', '"100%"', '"100%"', "null")]

    def test_other_hosts_get_no_guest_settings(self, host):
        (host / AGENT).unlink()
        suggestion = BalloonPlugin.mom_suggest(host)
        assert suggestion is not None
        assert suggestion.reason
        assert not suggestion.guests


class TestDoctor:
    def test_agent_and_guest_names_identify_cloudstack(self, host):
        guests = {"i-2-7-VM": (4, 4), "r-4-VM": (0.25, 0.25), "s-1-VM": (1, 1), "v-2-VM": (1, 1), "i-2": (1, 4), "x-2-7-VM": (1, 4)}
        (finding,) = findings(host, guests)
        assert finding.message == f"its agent is on this host (/{AGENT}); 1 instance and 3 system VMs active"
        (host / AGENT).unlink()
        assert findings(host, guests) == []
        assert findings(host, None) == []

    def test_instances_without_a_promised_start_size_are_named_with_the_cure(self, host):
        guests = {"i-2-7-VM": (1, 4), "i-2-8-VM": (2, 4), "i-2-9-VM": (4, 4), "i-2-10-VM": (None, 4)}
        _, below, finding = findings(host, guests, {"i-2-8-VM": {"guarantee": "25%"}})
        assert "2 instances started with less than the maximum" in below.message
        assert below.message.endswith("i-2-7-VM 1.00 GiB of 4.00 GiB, i-2-8-VM 2.00 GiB of 4.00 GiB")
        assert finding.severity is Severity.WARNING
        assert finding.message == "1 instance without a guarantee of the size at the start: i-2-7-VM"
        assert finding.cure == 'write under `guests:` in mom.yaml: "i-*-VM": {guarantee: start}'

    @pytest.mark.parametrize(("wanted", "by_class"), [(START, False), ({"*": {"guarantee": "1GiB"}}, False), ({}, True)])
    def test_promised_instances_need_no_cure(self, host, wanted, by_class):
        _, finding = findings(host, {"i-2-7-VM": (1, 4)}, wanted, by_class)
        assert finding.severity is Severity.OK
        assert "mom lets such guests grow on demand" in finding.message

    def test_fully_promised_instances_are_named(self, host):
        _, finding = findings(host, {"i-2-7-VM": (4, 4), "i-2-8-VM": (4, 4)}, START)
        assert "2 instances started with all memory" in finding.message
        assert '"i-*-VM": {guarantee: 50%}' in finding.cure

    def test_instances_with_memory_left_to_plug_are_named_with_the_cure(self, host):
        _, finding = findings(host, {"i-2-7-VM": (1, 1, 4), "i-2-8-VM": (4, 4, 4), "i-2-9-VM": (4, 4)})
        assert finding.message.endswith("i-2-7-VM 1.00 GiB of 4.00 GiB")
        assert "have CloudStack start instances with all their memory" in finding.cure

    def test_agent_without_balloons_is_reported(self, host):
        (host / AGENT).write_bytes(b"workers=5\r\n vm.memballoon.disable = TRUE \r\n\xff")
        _, finding = findings(host, {"i-2-7-VM": (4, 4)})
        assert (finding.severity, "without a balloon" in finding.message) == (Severity.WARNING, True)
