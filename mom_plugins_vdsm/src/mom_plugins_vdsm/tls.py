"""TLS as vdsm's own clients use it, and plain words for what is wrong with a certificate and in which file it stands.

Both ends verify the chain against vdsm's CA, and neither the host's name: the certificate is for the host's name on the network, while
mom connects to localhost.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mom_core import HypervisorError, PermissionDenied, printable

# Numbers of X509_V_ERR_… in OpenSSL's x509_vfy.h, which are part of its stable interface.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_CA = frozenset({2, 7, 18, 19, 20, 21})

_READABLE_HINT = "run mom as user vdsm with group kvm"
_NAMED_HINT = "the engine makes it when the host is installed; the section [vdsm] of mom.conf, or the plugin vdsm's settings, name others"
_ENROLL_HINT = "have the engine make new ones for this host: Installation, Enroll Certificate"
_NO_TLS_HINT = "set tls: false for the plugin vdsm, if vdsm's own configuration has ssl = false in its section [vars]"

_LARGEST_FILE = 1 << 20
"""Bytes. A certificate has 2 KiB, the largest bundles of CAs some hundred."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: mom's key and certificate (vdsm's own, usually), and the CA that signed both ends'."""

    key: Path
    certificate: Path
    ca: Path


def context_of(files: TlsFiles, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> ssl.SSLContext:
    """The context of a connection to vdsm, from the files as they are now. Raises `HypervisorError` that names the file."""
    key, _, _ = (_read(path) for path in (files.key, files.certificate, files.ca))
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=files.ca)
    except (ssl.SSLError, ValueError) as error:
        raise HypervisorError(f"{files.ca} holds no certificate of a CA: {_said(error)}") from error
    damaged = f"{files.certificate} and its key {files.key} cannot be used"
    try:
        # Asked for a password, OpenSSL would read it from the terminal, and wait for ever.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise HypervisorError(f"the key {files.key} does not belong to the certificate {files.certificate}") from error
        if b"ENCRYPTED" in key:
            raise HypervisorError(f"{damaged}: it is encrypted") from error
        raise HypervisorError(f"{damaged}: one of them is damaged, or is not in PEM form ({_said(error)})", hint=_ENROLL_HINT) from error
    return context


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE)
    except PermissionError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}", hint=_READABLE_HINT) from error
    except OSError as error:
        raise HypervisorError(f"{path} cannot be read: {error.strerror}", hint=_NAMED_HINT) from error


def own_certificate_problem(files: TlsFiles) -> str:
    """The problem that a peer with the same CA would have with mom's certificate; empty when it is good.

    A handshake in memory says: there is no other way to have the standard library check a certificate.
    """
    try:
        accepting, presenting = context_of(files, ssl.PROTOCOL_TLS_SERVER), context_of(files)
    except HypervisorError as error:
        return error.message
    presenting.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    client = presenting.wrap_bio(to_client, to_server)
    for _ in range(4):  # two turns are enough for every version of TLS
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return f"{files.certificate} {_verdict(error, files)}"
            except ssl.SSLError as error:
                return f"{files.certificate} cannot be used: {_said(error)}"
    return ""


def refused_handshake(error: OSError, files: TlsFiles, peer: str) -> HypervisorError:
    """The error for a handshake, or the first read after it, that failed with this.

    Under TLS 1.3 a client takes the handshake for done before the server has looked at its certificate.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return HypervisorError(f"the certificate of {peer} {_verdict(error, files)}", hint=_ENROLL_HINT)
    reason = error.reason if isinstance(error, ssl.SSLError) and isinstance(error.reason, str) else ""
    if "ALERT" in reason:
        return not_let_in(files, peer, reason.partition("ALERT_")[2].replace("_", " ").lower())
    if own_certificate_problem(files):  # it has hung up without a reason, and that is one
        return not_let_in(files, peer, "")
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return HypervisorError(f"{peer} does not speak TLS", hint=_NO_TLS_HINT)
    return HypervisorError(f"no TLS connection with {peer}: {_said(error)}", hint=_NO_TLS_HINT)


def not_let_in(files: TlsFiles, peer: str, said: str) -> HypervisorError:
    """The error for a connection that vdsm ended before it said anything: it does not accept mom's certificate.

    :param said: vdsm's reason, if it gave one
    """
    problem = own_certificate_problem(files)
    message = f"{peer} does not accept the certificate {files.certificate}" + (f": {said}" if said else "")
    if problem:
        return PermissionDenied(f"{message}; {problem}", hint=_ENROLL_HINT)
    return PermissionDenied(message, hint="it must be signed by the CA that vdsm trusts")


def _verdict(error: ssl.SSLCertVerificationError, files: TlsFiles) -> str:
    if error.verify_code == _EXPIRED:
        return "has expired"
    if error.verify_code == _NOT_YET_VALID:
        return "is not valid yet"
    if error.verify_code in _OTHER_CA:
        return f"is not signed by the CA in {files.ca}: {error.verify_message}"
    return f"is not accepted: {error.verify_message}"


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return printable(reason.replace("_", " ").lower() if isinstance(reason, str) else str(error), 120)
