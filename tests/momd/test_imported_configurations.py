"""Imported configurations are valid, and decide like the other program."""

from pathlib import Path

import pytest
import yaml

from mom_core import load_config
from mom_daemon.plugins.declared import check_plugins
from mom_plugins_vdsm.momd.imported import Imported
from mom_plugins_vdsm.momd.importer import GUEST_COLLECTORS, HOST_COLLECTORS, HYPERVISORS, import_momd

SHIPPED = Path(__file__).with_name("vdsm_mom.conf").read_text()

EVERYTHING = f"""
[main]
controllers: Balloon, KSM, CpuTune, IoTune
rpc-port: /run/rpc.sock
policy: /etc/p
[host]
collectors: {", ".join(HOST_COLLECTORS)}
[guest]
collectors: {", ".join(GUEST_COLLECTORS)}
"""


def imports() -> dict[str, Imported]:
    return {
        "vdsm": import_momd(SHIPPED, "mom.conf"),
        "empty": import_momd("", "mom.conf"),
        "everything": import_momd(EVERYTHING, "mom.conf"),
        "no-controllers": import_momd("[main]\ncontrollers:\n[host]\ncollectors: HostKSM\n", "mom.conf"),
    }


@pytest.mark.parametrize("name", imports())
def test_the_yaml_is_right_for_the_installed_plugins(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mom.yaml"
    path.write_text(imports()[name].yaml())
    config = load_config(path)
    assert check_plugins(config).errors == []


@pytest.mark.parametrize("value", HYPERVISORS)
def test_every_old_hypervisor_has_its_plugin(value: str) -> None:
    imported = import_momd(f"[main]\nhypervisor-interface: {value}\n", "mom.conf")
    assert HYPERVISORS[value] in load_config(imported.settings()).plugins


def test_the_settings_for_vdsm_are_what_the_shipped_file_says() -> None:
    config = load_config(yaml.safe_load(imports()["vdsm"].yaml()))
    assert (config.interval, config.history, config.mode) == (15.0, 10, "enforce")
    assert list(config.plugins) == ["host", "vdsm", "ksm", "balloon", "qos", "policy", "xmlrpc"]
