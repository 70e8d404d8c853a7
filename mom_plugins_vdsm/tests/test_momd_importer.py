"""Import of MOM's configuration: settings, remarks about the others, and positions of errors."""

from typing import Any

import pytest
import yaml

from mom_core import ConfigError
from mom_plugins_vdsm.momd.imported import Imported
from mom_plugins_vdsm.momd.importer import import_momd


def settings(imported: Imported) -> dict[str, Any]:
    """Return the settings in the YAML, which equal the mapping."""
    read: dict[str, Any] = yaml.safe_load(imported.yaml())
    assert read == imported.settings()
    return read


def momd(text: str) -> dict[str, Any]:
    return settings(import_momd(text, "old.conf"))


@pytest.mark.parametrize(
    ("main", "mode", "noted"),
    [
        ("", "observe", "no policy decides, so mom changes nothing"),
        ("policy: /p\n", "enforce", ""),
        ("policy-dir: /p.d\n", "enforce", ""),
        ("policy: /p\ncontrollers:\n", "observe", ""),
        ("rpc-port: /run/m.sock\n", "enforce", "until a client sets a policy by XML-RPC, no policy decides"),
    ],
)
def test_mom_acts_where_mom_of_old_acted_and_a_missing_policy_is_said(main: str, mode: str, noted: str) -> None:
    imported = import_momd(f"[main]\n{main}", "old.conf")
    assert settings(imported)["mode"] == mode
    assert [noted in note for note in imported.notes] == ([True] if noted else [])


def test_intervals_history_uri_and_verbosity_have_their_place() -> None:
    said = momd(
        "[main]\npolicy-engine-interval = 7\nsample-history-length: 20\nlibvirt-hypervisor-uri: qemu+ssh://h/system\n"
        "[logging]\nverbosity: warn\n"
    )
    assert (said["interval"], said["history"], said["log_level"]) == ("7s", 20, "warning")
    assert said["plugins"]["libvirt"] == {"uri": "qemu+ssh://h/system"}


@pytest.mark.parametrize("name", ["VDSM", "vdsmxmlrpc", "vdsmxmlrpcbulk", "vdsmjsonrpc", "vdsmjsonrpcbulk", "vdsmjsonrpcclient"])
def test_all_ways_to_vdsm_are_one_plugin(name: str) -> None:
    said = momd(f"[main]\nhypervisor-interface: {name}\n[vdsm]\nhost=h\nport=5\npki-dir=/p\n")
    assert said["plugins"]["vdsm"] == {"host": "h", "port": 5, "pki_directory": "/p"}
    assert said["plugins"]["policy"] == {"defaults": False, "keep_changes": True}


@pytest.mark.parametrize(
    ("port", "listen"), [("-1", None), ("", None), ("0", None), ("8080", "127.0.0.1:8080"), ("/run/m.sock", "/run/m.sock")]
)
def test_the_rpc_port_is_a_port_or_a_path_or_off(port: str, listen: str | None) -> None:
    plugins = momd(f"[main]\nrpc-port: {port}\n")["plugins"]
    read_only = {} if listen is None or listen.startswith("/") else {"changes_over_tcp": False}
    assert plugins.get("xmlrpc") == (None if listen is None else {"listen": listen, **read_only})


def test_collectors_and_controllers_become_plugins() -> None:
    plugins = momd(
        "[main]\ncontrollers: Balloon, KSM, CpuTune, IoTune\n[host]\ncollectors: HostMemory, HostKSM, HostCpu, HostTime\n"
        "[guest]\ncollectors: GuestQemuProc, GuestLibvirt, GuestMemory, GuestBalloon, GuestQemuAgent, GuestIoTuneOptional\n"
    )["plugins"]
    assert list(plugins) == ["host", "libvirt", "ksm", "balloon", "guestagent", "qos", "policy"]
    assert plugins["guestagent"] == {"qemu_agent": True}
    assert "ignore" not in plugins["policy"]


def test_what_no_controller_acted_on_has_no_effect_now_either() -> None:
    plugins = momd("[main]\ncontrollers: IoTune\n[host]\ncollectors: HostKSM\n")["plugins"]
    assert plugins["policy"]["ignore"] == [
        "ksm_run", "ksm_pages_to_scan", "ksm_sleep_millisecs", "ksm_merge_across_nodes", "vcpu_quota", "vcpu_period",
    ]  # fmt: skip


def test_a_policy_comes_before_a_folder_of_them() -> None:
    assert momd("[main]\npolicy-dir: /d\n")["plugins"]["policy"]["directory"] == "/d"
    both = import_momd("[main]\npolicy: /f\npolicy-dir: /d\n", "old.conf")
    assert both.plugins["policy"].settings["file"] == "/f"
    assert any("policy-dir: /d" in note for note in both.notes)


def test_what_no_longer_matters_is_accepted_and_said() -> None:
    text = (
        "[main]\nplot-dir: /plots\nguest-manager-multi-thread: true\nmain-loop-interval: 3\ncontrollers: Baloon\nfoo: 1\n"
        "[Collector: GuestQemuAgent]\nsocket_path: /x\n[host]\ncollectors: HostMemry\n[odd]\na: 1\n[vdsm]\nport: 1\n[MAIN]\nb: 1\n"
    )
    imported = import_momd(text, "old.conf")
    told = "\n".join(imported.notes)
    for part in (
        "plot-dir: /plots: enable the record plugin; `mom report --html FILE` then draws plots",
        "guest-manager-multi-thread of [main]: not used",
        "main-loop-interval: 3",
        "controller Baloon: MOM did not contain it",
        "foo of [main]: not used",
        "[Collector: GuestQemuAgent]: not used",
        "[odd]: not used",
        "[vdsm]: not used",
        "[MAIN]: not used",
    ):
        assert part in told
    written = imported.yaml()
    assert all(part.split()[0] in written for part in imported.notes)


def test_where_to_log_is_for_momd_alone() -> None:
    imported = import_momd("[main]\npolicy: /p\n[logging]\nlog: /var/log/m\nmax-bytes: 5\nbackup-count: 2\n", "old.conf")
    assert (imported.log.file, imported.log.max_bytes, imported.log.backups) == ("/var/log/m", 5, 2)
    assert import_momd("[logging]\nlog: stdio\n", "old.conf").log.file == ""
    assert imported.notes == []


def test_the_command_line_comes_before_the_file() -> None:
    imported = import_momd("[main]\npolicy: /a\n", "old.conf", {("main", "policy"): "/b", ("logging", "verbosity"): "5"})
    assert imported.plugins["policy"].settings["file"] == "/b"
    assert imported.top.settings["log_level"] == "debug"
    with pytest.raises(ConfigError, match=r"verbosity of \[logging\]: loud is not a log level"):
        import_momd("", "old.conf", {("logging", "verbosity"): "loud"})


def test_every_wrong_value_is_told_with_its_option() -> None:
    text = (
        "[main]\nrpc-port: here\npolicy-engine-interval: 0\nsample-history-length: many\nhypervisor-interface: no such\npolicy: rel\n"
        "[logging]\nlog: rel\nverbosity: 9\nmax-bytes: x\n"
    )
    with pytest.raises(ConfigError) as caught:
        import_momd(text, "old.conf")
    named = {problem.message.partition(":")[0] for problem in caught.value.problems}
    assert named == {
        *(
            f"{name} of [main]"
            for name in ("rpc-port", "policy-engine-interval", "sample-history-length", "hypervisor-interface", "policy")
        ),
        *(f"{name} of [logging]" for name in ("log", "verbosity", "max-bytes")),
    }


@pytest.mark.parametrize("text", ["\n\nrpc-port: 1\n", "[main]\na: 1\n[main]\n", "[main]\na: 1\nA = 2\n", "[main]\na: 1\nnonsense\n"])
def test_a_file_that_is_no_ini_file_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"line:? 3"):
        import_momd(text, "old.conf")
