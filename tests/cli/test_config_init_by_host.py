"""`mom config init` enables the plugins for a host, in one valid configuration."""

from pathlib import Path

from mom_daemon.config.draft import draft_config


def test_a_host_of_nova_gets_libvirt_and_nova_and_another_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "run/libvirt").mkdir(parents=True)
    (tmp_path / "run/libvirt/libvirt-sock").touch()
    assert "nova" not in draft_config(tmp_path).enabled
    (tmp_path / "var/lib/nova/instances").mkdir(parents=True)
    draft = draft_config(tmp_path)
    enabled = list(draft.enabled)
    assert enabled.index("libvirt") < enabled.index("nova") < enabled.index("balloon")
    assert "# nova: there is /var/lib/nova/instances: this is a host of OpenStack nova" in draft.text
    assert "flavor=m1.*" in draft.text, "how patterns go by it is shown"


def test_a_node_with_kubevirt_gets_its_plugin_and_not_that_of_a_libvirt_beside_it(tmp_path: Path) -> None:
    (tmp_path / "run/libvirt").mkdir(parents=True)
    (tmp_path / "run/libvirt/libvirt-sock").touch()
    (tmp_path / "var/run/kubevirt").mkdir(parents=True)
    draft = draft_config(tmp_path)
    assert list(draft.enabled)[:2] == ["kubevirt", "balloon"]
    assert "# kubevirt: there is /var/run/kubevirt: this is a node of KubeVirt" in draft.text
    assert draft.left_out["libvirt"] == "kubevirt already lists the guests of this host"
