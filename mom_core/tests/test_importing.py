"""Configurations of other programs: what each setting becomes, what is said about the rest, and where a mistake stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mom_core.cli.frame import mom
from mom_core.config.importing.imported import Imported
from mom_core.config.importing.ksmtuned import import_ksmtuned
from mom_core.config.importing.momd import import_momd
from mom_core.config.importing.proxmox import import_proxmox
from mom_core.errors import ConfigError, MomError


def problems(error: ConfigError) -> list[tuple[int, str]]:
    return [(one.line, one.message) for one in error.problems]


def settings(imported: Imported) -> dict[str, Any]:
    """What the YAML says; the same as the mapping."""
    read: dict[str, Any] = yaml.safe_load(imported.yaml())
    assert read == imported.settings()
    return read


def momd(text: str) -> dict[str, Any]:
    return settings(import_momd(text, "old.conf").imported)


# --- momd ------------------------------------------------------------------------------------------------------------------------------


def test_an_empty_file_has_the_old_daemons_defaults() -> None:
    assert momd("") == {
        "interval": "10s",
        "history": 10,
        "plugins": {
            "host": {},
            "libvirt": {"uri": "qemu:///system"},
            "balloon": {},
            "policy": {"defaults": False},
        },
    }


def test_intervals_history_uri_and_verbosity_have_their_place() -> None:
    said = momd(
        "[main]\npolicy-engine-interval = 7\nsample-history-length: 20\nlibvirt-hypervisor-uri: qemu+ssh://h/system\n"
        "[logging]\nverbosity: warn\n"
    )
    assert (said["interval"], said["history"], said["log_level"]) == ("7s", 20, "warning")
    assert said["plugins"]["libvirt"] == {"uri": "qemu+ssh://h/system"}


@pytest.mark.parametrize("name", ["VDSM", "vdsmxmlrpc", "vdsmxmlrpcbulk", "vdsmjsonrpc", "vdsmjsonrpcbulk", "vdsmjsonrpcclient"])
def test_all_ways_to_vdsm_are_one_plugin(name: str) -> None:
    said = momd(f"[main]\nhypervisor-interface: {name}\n[vdsm]\nhost=h\nport=5\nrequest-timeout=20\npki-dir=/p\nkey-file=k\ncert-file=c\n")
    assert said["plugins"]["vdsm"] == {
        "host": "h",
        "port": 5,
        "pki_directory": "/p",
        "key": "k",
        "certificate": "c",
        "answer_timeout": "20s",
        "deadline": "25s",
    }
    assert said["plugins"]["policy"] == {"defaults": False, "keep_changes": True}


@pytest.mark.parametrize(
    ("port", "listen"), [("-1", None), ("", None), ("0", None), ("8080", "127.0.0.1:8080"), ("/run/m.sock", "/run/m.sock")]
)
def test_the_rpc_port_is_a_port_or_a_path_or_off(port: str, listen: str | None) -> None:
    plugins = momd(f"[main]\nrpc-port: {port}\n")["plugins"]
    read_only = {} if listen is None or listen.startswith("/") else {"changes_over_tcp": False}
    assert plugins.get("xmlrpc") == (None if listen is None else {"listen": listen, **read_only})


def test_an_rpc_port_takes_no_changes_any_more_and_the_file_says_so_and_why() -> None:
    text = import_momd("[main]\nrpc-port: 8080\n", "mom.conf").imported.yaml()
    assert "changes_over_tcp: false" in text
    assert "XML-RPC has no authentication" in text
    assert "rpc-port: 8080: it tells statistics and policies, and takes no changes" in text


def test_collectors_and_controllers_become_plugins() -> None:
    plugins = momd(
        "[main]\ncontrollers: Balloon, KSM, CpuTune, IoTune\n[host]\ncollectors: HostMemory, HostKSM, HostCpu, HostTime\n"
        "[guest]\ncollectors: GuestQemuProc, GuestLibvirt, GuestMemory, GuestBalloon, GuestQemuAgent, GuestIoTuneOptional\n"
    )["plugins"]
    assert list(plugins) == ["host", "libvirt", "ksm", "balloon", "guestagent", "qos", "policy"]
    assert plugins["guestagent"] == {"guestd": False, "qemu_agent": True}
    assert "ignore" not in plugins["policy"]


def test_what_no_controller_acted_on_has_no_effect_now_either() -> None:
    plugins = momd("[main]\ncontrollers: IoTune\n[host]\ncollectors: HostKSM\n")["plugins"]
    assert plugins["policy"]["ignore"] == [
        "ksm_run",
        "ksm_pages_to_scan",
        "ksm_sleep_millisecs",
        "ksm_merge_across_nodes",
        "vcpu_quota",
        "vcpu_period",
    ]


def test_an_interval_is_never_written_with_an_exponent() -> None:
    assert momd("[main]\npolicy-engine-interval: 2500000.5\n")["interval"] == "2500000.5s"
    assert momd("[main]\npolicy-engine-interval: 15\n")["interval"] == "15s"


def test_a_policy_comes_before_a_folder_of_them() -> None:
    assert momd("[main]\npolicy-dir: /d\n")["plugins"]["policy"]["directory"] == "/d"
    both = import_momd("[main]\npolicy: /f\npolicy-dir: /d\n", "old.conf").imported
    assert both.plugins["policy"].settings["file"] == "/f"
    assert any("policy-dir: /d" in note for note in both.notes)


def test_what_no_longer_matters_is_accepted_and_said() -> None:
    text = (
        "[main]\nplot-dir: /plots\nguest-manager-multi-thread: true\nmain-loop-interval: 3\ncontrollers: Baloon\nfoo: 1\n"
        "[Collector: GuestQemuAgent]\nsocket_path: /x\n[host]\ncollectors: HostMemry\n[odd]\na: 1\n[vdsm]\nport: 1\n[MAIN]\nb: 1\n"
    )
    imported = import_momd(text, "old.conf").imported
    told = "\n".join(imported.notes)
    for part in (
        "plot-dir: /plots: enable the plugin record; `mom plot --momplot /plots RECORDING`",
        "guest-manager-multi-thread: true",
        "main-loop-interval: 3",
        "controller Baloon (line 5): did you mean Balloon?",
        "foo of [main] (line 6): there is no such option",
        "[Collector: GuestQemuAgent] socket_path: /x",
        "collector HostMemry (line 10): did you mean HostMemory?",
        "[odd] (line 11): there is no such section",
        "[vdsm]: the guests do not come from vdsm",
        "[MAIN] (line 15): there is no such section; did you mean [main]?",
    ):
        assert part in told
    written = imported.yaml()
    assert all(part.split()[0] in written for part in imported.notes)


def test_where_to_log_is_for_momd_alone() -> None:
    found = import_momd("[logging]\nlog: /var/log/m\nmax-bytes: 5\nbackup-count: 2\n", "old.conf")
    assert (found.log.file, found.log.max_bytes, found.log.backups) == ("/var/log/m", 5, 2)
    assert import_momd("[logging]\nlog: stdio\n", "old.conf").log.file == ""
    assert found.imported.notes == []
    assert any(note.startswith("log: /var/log/m") for note in found.for_mom_run().notes)


def test_the_command_line_comes_before_the_file_and_its_mistakes_have_no_line() -> None:
    found = import_momd("[main]\npolicy: /a\n", "old.conf", {("main", "policy"): "/b", ("logging", "verbosity"): "5"})
    assert found.imported.plugins["policy"].settings["file"] == "/b"
    assert found.imported.top.settings["log_level"] == "debug"
    with pytest.raises(ConfigError) as caught:
        import_momd("", "old.conf", {("logging", "verbosity"): "loud"})
    assert problems(caught.value) == [(0, "verbosity: loud is no level")]


def test_every_wrong_value_is_told_with_its_line() -> None:
    text = (
        "[main]\nrpc-port: here\npolicy-engine-interval: 0\nsample-history-length: many\nhypervisor-interface: no such\npolicy: rel\n"
        "guest-manager-multi-thread: maybe\n[logging]\nlog: rel\nverbosity: 9\nmax-bytes: x\n"
    )
    with pytest.raises(ConfigError) as caught:
        import_momd(text, "old.conf")
    assert [line for line, _ in problems(caught.value)] == [2, 3, 4, 5, 6, 7, 9, 10, 11]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("rpc-port: 1\n", 1, "an option stands before the first section"),
        ("[main]\na: 1\n[main]\n", 3, "the section main is there twice"),
        ("[main]\na: 1\nA = 2\n", 3, "the option a of main is there twice"),
        ("[main]\na: 1\nnonsense\n", 3, "this is no option: nonsense"),
        ("[main\n", 1, "an option stands before the first section"),
    ],
)
def test_a_file_that_is_no_ini_file_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        import_momd(text, "old.conf")
    assert problems(caught.value) == [(line, message)]


def test_comments_percent_signs_and_continued_lists_are_as_they_were() -> None:
    plugins = momd("# x\n; y\n[DEFAULT]\nrpc-port: 77\n[main]\ncontrollers:\n  KSM\n  Balloon\npolicy: /a%b\n")["plugins"]
    assert plugins["xmlrpc"]["listen"] == "127.0.0.1:77"
    assert plugins["policy"]["file"] == "/a%b"
    assert {"ksm", "balloon"} <= plugins.keys()


@given(st.text("[]mainhostguest:=#;\n \t,-0159/KSM%é\x00\u2028", max_size=200))
def test_no_text_does_more_than_be_refused_and_no_comment_breaks_the_yaml(text: str) -> None:
    try:
        imported = import_momd("[main]\n" + text, "old.conf").imported
    except ConfigError:
        return
    settings(imported)


# --- ksmtuned ---------------------------------------------------------------------------------------------------------------------------


def test_ksmtuneds_values_become_a_policy_and_the_interval() -> None:
    text = "# comment\nKSM_MONITOR_INTERVAL=30\nKSM_NPAGES_MAX='2000'  # more\nexport KSM_THRES_COEF=\"25\"\n\nDEBUG=1\nFOO=2\nif true\n"
    imported = import_ksmtuned(text, "k.conf")
    assert settings(imported)["interval"] == "30s"
    assert "(defvar ksm_pages_most 2000)" in imported.policies["30_ksmtuned"]
    assert "(defvar ksm_start_share 0.25)" in imported.policies["30_ksmtuned"]
    told = "\n".join(imported.notes)
    for part in ("DEBUG=1: set log_level", "line 7: ksmtuned has no FOO", "line 8: if true is no assignment"):
        assert part in told


def test_values_that_cannot_be_are_told_with_their_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        import_ksmtuned("KSM_THRES_COEF=200\nKSM_NPAGES_DECAY=50\nKSM_SLEEP_MSEC=$X\n", "k.conf")
    assert [line for line, _ in problems(caught.value)] == [1, 2, 3]
    with pytest.raises(ConfigError, match="KSM_NPAGES_MIN is larger"):
        import_ksmtuned("KSM_NPAGES_MIN=5000\n", "k.conf")


# --- proxmox ----------------------------------------------------------------------------------------------------------------------------

GUEST = "boot: order=scsi0\n#note: x\nname: web\nmemory: 4096\nballoon: 2048\n\n[snap]\nmemory: 1\nname: old\n"


def test_memory_and_balloon_become_a_guarantee() -> None:
    found = settings(
        import_proxmox(
            {
                "/q/100.conf": GUEST,
                "/q/101.conf": "memory: current=8192\nballoon: 0\n",
                "/q/102.conf": "name: fixed[1]\nmemory: 1024\n",
                "/q/103.conf": "name: never\nmemory: 1024\nballoon: 512\nshares: 0\n",
            }
        )
    )
    assert found["guests"] == {
        "web": {"guarantee": "2048MiB"},
        "101": {"guarantee": "8192MiB"},
        "fixed[[]1]": {"guarantee": "1024MiB"},
        "never": {"guarantee": "1024MiB"},
    }


def test_shares_are_said_to_have_no_place() -> None:
    imported = import_proxmox({"/q/1.conf": GUEST.replace("\n\n", "\nshares: 2000\n\n")})
    assert any(note.startswith("shares: web 2000: mom has no such weights") for note in imported.notes)


def test_wrong_lines_of_all_files_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        import_proxmox({"/q/1.conf": "memory: lots\n", "/q/2.conf": "what is this\nmemory: 1\nballoon: 2\n"})
    assert [(one.file, one.line) for one in caught.value.problems] == [("/q/1.conf", 1), ("/q/2.conf", 1), ("/q/2.conf", 3)]


# --- the verb ---------------------------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        mom, ["config", "import", *arguments]
    )  # through `mom`, as click keeps what a command was first called under
    if result.exception is not None and isinstance(result.exception, MomError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_the_verb_prints_or_writes_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    old, new = tmp_path / "old.conf", tmp_path / "new.yaml"
    old.write_text("[main]\n")
    assert yaml.safe_load(run(str(old))[1])["interval"] == "10s"
    assert f"wrote {new}" in run(str(old), "-o", str(new))[1]
    assert "exists already" in run(str(old), "-o", str(new))[1]
    assert run(str(old), "-o", str(new), "--force")[0] == 0


def test_a_folder_of_guests_is_read_whole_and_policies_are_shown_as_comments(tmp_path: Path) -> None:
    (tmp_path / "100.conf").write_text(GUEST)
    (tmp_path / "101.conf").write_text("memory: 1024\n")
    assert set(yaml.safe_load(run("--from", "proxmox", str(tmp_path))[1])["guests"]) == {"web", "101"}
    old = tmp_path / "ksmtuned.conf"
    old.write_text("")
    code, text = run("--from", "ksmtuned", str(old))
    assert code == 0
    assert set(yaml.safe_load(text)["plugins"]) == {"host", "ksm", "policy"}
    assert "#     (defvar ksm_pages_most 1250)" in text


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "no such file" in run(str(tmp_path / "nope"))[1]
    assert "not a regular file" in run(str(tmp_path))[1]
    assert "there is no *.conf" in run("--from", "proxmox", str(tmp_path))[1]
    bad = tmp_path / "bad"
    bad.write_bytes(b"[main]\n\xff")
    assert f"{bad}:2:1: not UTF-8 text" in run(str(bad))[1]
