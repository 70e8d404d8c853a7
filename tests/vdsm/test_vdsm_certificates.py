"""Certificates: errors name the fault and the file; mom uses renewed certificates."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from vdsm_peer import Vdsm
from vdsm_pki import make_ca, write_pki

from mom_core import HypervisorError, PermissionDenied
from mom_devkit import wait_until
from mom_plugins_vdsm.connection import VdsmConnection

Start = Callable[..., Vdsm]
Connect = Callable[..., VdsmConnection]


def failure(connection: VdsmConnection) -> HypervisorError:
    with pytest.raises(HypervisorError) as caught:
        connection.call("Host.ping2", {}, 60.0, "pinging")
    return caught.value


@pytest.mark.parametrize(("ends", "own_ca"), [(-2, True), (9, False)])
def test_a_peer_whose_certificate_is_of_another_ca_or_over_is_not_trusted(start_vdsm, connect, pki, tmp_path, ca, ends, own_ca):
    signer = ca if own_ca else make_ca("another CA")
    other = write_pki(tmp_path / "other", signer, begins=timedelta(days=-9), ends=timedelta(days=ends))
    error = failure(connect(start_vdsm(pki=other), pki))
    assert "the certificate of vdsm at 127.0.0.1" in error.message
    assert f"does not fit the CA in {pki / 'certs/cacert.pem'}: " in error.message
    assert error.message.endswith("certificate has expired") is own_ca


@pytest.mark.parametrize("tls12", [False, True])
@pytest.mark.parametrize(("begins", "ends", "own_ca"), [(-9, -2, True), (2, 9, True), (-1, 9, False)])
def test_a_certificate_that_vdsm_refuses_is_named(start_vdsm, connect, pki, tmp_path, ca, begins, ends, own_ca, tls12):
    signer = ca if own_ca else make_ca("somebody else's CA")
    mine = write_pki(tmp_path / "mine", signer, begins=timedelta(days=begins), ends=timedelta(days=ends))
    (mine / "certs/cacert.pem").write_bytes((pki / "certs/cacert.pem").read_bytes())
    error = failure(connect(start_vdsm(pki=pki, tls12=tls12), mine))
    assert isinstance(error, PermissionDenied)
    assert f"does not accept the certificate {mine / 'certs/vdsmcert.pem'}" in error.message


@pytest.mark.parametrize("peer_has_it", [False, True])
def test_tls_at_one_end_only_says_what_to_set(start_vdsm, connect, pki, peer_has_it):
    vdsm = start_vdsm(pki=pki if peer_has_it else None)
    error = failure(connect(vdsm, None if peer_has_it else pki))
    assert f"tls: {str(peer_has_it).lower()}" in error.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("keys/vdsmkey.pem", None),
        ("certs/vdsmcert.pem", ""),
        ("certs/cacert.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"),
    ],
)
def test_a_file_that_is_not_there_or_holds_something_else_is_named(start_vdsm, connect, pki, name, content):
    (pki / name).unlink()
    if content is not None:
        (pki / name).write_text(content)
    assert str(pki / name) in failure(connect(start_vdsm(), pki)).message


def test_an_encrypted_key_is_said_and_nobody_is_asked_for_a_password(connect, vdsm, pki):
    from cryptography.hazmat.primitives import serialization as s

    path = pki / "keys/vdsmkey.pem"
    key = s.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))
    assert f"its key {path} cannot be used" in failure(connect(vdsm, pki)).message


def test_renewed_files_are_used_with_the_next_connection(start_vdsm, connect, pki, ca):
    vdsm = start_vdsm(pki=pki)
    connection = connect(vdsm, pki)
    connection.call("Host.ping2", {}, 60.0, "pinging")
    write_pki(pki, ca, begins=timedelta(days=-9), ends=timedelta(days=-2))
    assert connection.call("Host.ping2", {}, 60.0, "pinging") is True
    vdsm.drop()
    wait_until(lambda: connection._session is None)
    connection._retry_at = 0.0
    assert f"does not accept the certificate {pki / 'certs/vdsmcert.pem'}" in failure(connection).message
