"""vdsm's own configuration says how to reach it."""

from pathlib import Path

import pytest

from mom_plugins_vdsm.vdsm_conf import read_vdsm_conf


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_main_file_is_read_and_without_files_vdsms_defaults_hold(tmp_path: Path) -> None:
    conf = read_vdsm_conf(tmp_path)
    assert (conf.tls, conf.host, conf.port, conf.sample_interval, conf.problems) == (True, "localhost", 54321, 15.0, ())
    write(tmp_path, "etc/vdsm/vdsm.conf", "[vars]\nssl = false\nvm_sample_interval = 5\n[addresses]\nmanagement_port = 54322\n")
    conf = read_vdsm_conf(tmp_path)
    assert (conf.tls, conf.port, conf.sample_interval) == (False, 54322, 5.0)


def test_drop_ins_win_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "etc/vdsm/vdsm.conf", "[addresses]\nmanagement_port = 1\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/10-a.conf", "[addresses]\nmanagement_port = 2\n")
    write(tmp_path, "run/vdsm/vdsm.conf.d/20-b.conf", "[addresses]\nmanagement_port = 3\n")
    write(tmp_path, "usr/lib/vdsm/vdsm.conf.d/15-c.conf", "[addresses]\nmanagement_port = 4\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/99-other.ini", "[addresses]\nmanagement_port = 5\n")
    assert read_vdsm_conf(tmp_path).port == 3


@pytest.mark.parametrize(("address", "host"), [("::", "localhost"), ("0.0.0.0", "localhost"), ("192.0.2.7", "192.0.2.7")])  # noqa: S104  # as vdsm writes it
def test_an_address_of_its_own_is_used(tmp_path: Path, address: str, host: str) -> None:
    write(tmp_path, "etc/vdsm/vdsm.conf", f"[addresses]\nmanagement_ip = {address}\n")
    assert read_vdsm_conf(tmp_path).host == host


def test_what_makes_no_sense_is_said_and_the_default_holds(tmp_path: Path) -> None:
    write(tmp_path, "etc/vdsm/vdsm.conf", "[vars]\nssl = perhaps\n[addresses]\nmanagement_port = 99999\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/10.conf", "no section\n")
    write(tmp_path, "etc/vdsm/vdsm.conf.d/11.conf", "[vars]\n")
    (tmp_path / "etc/vdsm/vdsm.conf.d/11.conf").write_bytes(b"\xff\xff")
    conf = read_vdsm_conf(tmp_path)
    assert (conf.tls, conf.port) == (True, 54321)
    assert len(conf.problems) == 4
