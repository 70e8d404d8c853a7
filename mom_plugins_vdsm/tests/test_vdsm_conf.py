"""mom reads vdsm's address in vdsm's configuration."""

import logging
from pathlib import Path

import pytest

from mom_plugins_vdsm.vdsm_conf import read_vdsm_conf

LOG = logging.getLogger("mom.plugin.vdsm")


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_drop_ins_win_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "etc/vdsm/vdsm.conf", "[addresses]\nmanagement_port = 1\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/10-a.conf", "[addresses]\nmanagement_port = 2\n")
    write(tmp_path, "run/vdsm/vdsm.conf.d/20-b.conf", "[addresses]\nmanagement_port = 3\n")
    write(tmp_path, "usr/lib/vdsm/vdsm.conf.d/15-c.conf", "[addresses]\nmanagement_port = 4\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/99-other.ini", "[addresses]\nmanagement_port = 5\n")
    assert read_vdsm_conf(tmp_path, LOG).port == 3


def test_what_makes_no_sense_is_said_and_the_default_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "etc/vdsm/vdsm.conf", "[vars]\nssl = perhaps\n[addresses]\nmanagement_port = 99999\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/10.conf", "no section\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/11.conf", "[vars]\n")
    (tmp_path / "etc/vdsm/vdsm.conf.d/11.conf").write_bytes(b"\xff\xff")
    conf = read_vdsm_conf(tmp_path, LOG)
    assert (conf.tls, conf.port) == (True, 54321)
    assert len(caplog.records) == 4
