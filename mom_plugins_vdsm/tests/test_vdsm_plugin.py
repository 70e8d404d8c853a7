"""The plugin's settings, declarations and suggestion."""

from pathlib import Path

from mom_core import PluginContext
from mom_devkit import FakeHypervisor
from mom_plugins_vdsm import VdsmPlugin


def plugin(root: Path, **settings: object) -> VdsmPlugin:
    context = PluginContext("vdsm", root, root / "state", root / "run", interval=4.0)
    return VdsmPlugin(VdsmPlugin.Settings.model_validate(settings), context)


def test_what_is_not_set_comes_from_vdsms_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc/vdsm").mkdir(parents=True)
    (tmp_path / "etc/vdsm/vdsm.conf").write_text("[vars]\nssl = false\n[addresses]\nmanagement_port = 1234\n")
    for settings, uri in (({}, "vdsm://localhost:1234"), ({"port": 4321, "host": "::1"}, "vdsm://[::1]:4321")):
        one = plugin(tmp_path, **settings)
        one.mom_setup()
        hypervisor = one.mom_hypervisor()
        one.mom_teardown()
        assert hypervisor is not None
        assert hypervisor.uri == uri


def test_it_collects_nothing_of_another_plugins_guests(tmp_path: Path) -> None:
    one = plugin(tmp_path)
    assert one.mom_collect_guests(FakeHypervisor(), ()) == {}
    assert list(one.mom_doctor()) == []
    one.mom_teardown()
