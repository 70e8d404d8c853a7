"""Guest files of Proxmox VE: what is promised to each guest, and where a mistake stands."""

from typing import Any

import pytest
import yaml

from mom_core import ConfigError
from mom_daemon import Imported
from mom_plugins_qemu.proxmox import parsed
from mom_plugins_qemu.proxmox_import import import_proxmox


def settings(imported: Imported) -> dict[str, Any]:
    """What the YAML says; the same as the mapping."""
    read: dict[str, Any] = yaml.safe_load(imported.yaml())
    assert read == imported.settings()
    return read


GUEST = "boot: order=scsi0\n#note: x\nname: web\nmemory: 4096\nballoon: 2048\n\n[snap]\nmemory: 1\nname: old\n"


def test_memory_and_balloon_become_a_guarantee() -> None:
    found = settings(
        import_proxmox(
            {
                "/q/100.conf": GUEST,
                "/q/101.conf": "memory: current=8192\nballoon: 0\n",
                "/q/102.conf": "name: fixed[1]\nmemory: 1024\n",
                "/q/103.conf": "name: moms\nmemory: 4096\nballoon: 1024\nshares: 0\ntags: prod;class-gold\n",
            }
        )
    )
    assert found["guests"] == {
        "web": {"guarantee": "2048MiB"},
        "vm101": {"guarantee": "8192MiB"},  # Proxmox VE gives its QEMU this name
        "fixed[[]1]": {"guarantee": "1024MiB"},
        "moms": {"guarantee": "1024MiB", "class": "gold"},
    }
    assert "sla" in found["plugins"]


@pytest.mark.parametrize("order", [1, -1])
def test_guests_of_one_name_are_promised_the_most_that_any_of_them_is(order: int) -> None:
    texts = ["name: web\nmemory: 8192\n", "name: web\nmemory: 4096\nballoon: 512\n", "name: db\nmemory: 1024\n"]
    imported = import_proxmox({f"/q/{number}.conf": text for number, text in list(enumerate(texts, 100))[::order]})
    assert settings(imported)["guests"] == {"web": {"guarantee": "8192MiB"}, "db": {"guarantee": "1024MiB"}}
    (note,) = (note for note in imported.notes if "have the same name web" in note)
    assert "/q/100.conf" in note
    assert "/q/101.conf" in note


def test_shares_are_said_as_what_they_cost_by_a_class() -> None:
    text = GUEST.replace("\n\n", "\nshares: 2500\n\n")
    (note,) = (note for note in import_proxmox({"/q/1.conf": text}).notes if note.startswith("shares: "))
    assert note.startswith("shares: web 2500 (2.5). In brackets: the cost of taking memory from the guest (reclaim_cost;")
    definition = parsed(text)
    assert definition is not None
    assert definition.reclaim_cost == 2.5, "as the plugin has it of the guest's file"


def test_wrong_lines_of_all_files_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        import_proxmox({"/q/1.conf": "memory: lots\n", "/q/2.conf": "what is this\nmemory: 1\nballoon: 2\n"})
    assert [(one.file, one.line) for one in caught.value.problems] == [("/q/1.conf", 1), ("/q/2.conf", 1), ("/q/2.conf", 3)]
