"""TLS as in vdsm's own clients.

mom verifies that vdsm's CA signed the certificate, but no host name, because mom usually connects to localhost.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mom_core import HypervisorError, PermissionDenied, printable

# X509_V_ERR_… of OpenSSL's x509_vfy.h, part of its stable interface.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_CA = frozenset({2, 7, 18, 19, 20, 21})

_READABLE_HINT = "run mom as user vdsm with group kvm"
_NAMED_HINT = (
    "the engine creates this file when it installs the host; to use another file, set its path for the vdsm plugin, or in mom.conf"
)
_ENROLL_HINT = "let the engine issue new certificates for this host: Installation, Enroll Certificate"
_NO_TLS_HINT = "set tls: false for the vdsm plugin, if vdsm's own configuration has ssl = false in its section [vars]"

_LARGEST_FILE = 1 << 20
"""Maximum bytes of a file. A large CA bundle has some hundred KiB."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: mom's key and certificate (usually vdsm's), and the certificate of mom's and vdsm's CA."""

    key: Path
    certificate: Path
    ca: Path


def context_of(files: TlsFiles, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> ssl.SSLContext:
    """Read the files, and return a TLS context. Raise `HypervisorError` if a file is unreadable or invalid."""
    key, _, _ = (_read(path) for path in (files.key, files.certificate, files.ca))
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=files.ca)
    except (ssl.SSLError, ValueError) as error:
        raise HypervisorError(f"{files.ca} contains no CA certificate: {_reason(error)}") from error
    damaged = f"{files.certificate} and its key {files.key} cannot be used"
    try:
        # Otherwise, OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise HypervisorError(f"the key {files.key} does not belong to the certificate {files.certificate}") from error
        if b"ENCRYPTED" in key:
            raise HypervisorError(f"{damaged}: the key is encrypted") from error
        raise HypervisorError(f"{damaged}: one of them is damaged, or is not in PEM form ({_reason(error)})", hint=_ENROLL_HINT) from error
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
    """Return why a peer with the same CA would reject mom's certificate; empty if a handshake in memory succeeds."""
    try:
        accepting, presenting = context_of(files, ssl.PROTOCOL_TLS_SERVER), context_of(files)
    except HypervisorError as error:
        return error.message
    presenting.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    client = presenting.wrap_bio(to_client, to_server)
    for _ in range(2):  # enough rounds for every version of TLS
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return f"{files.certificate} {_verdict(error, files)}"
            except ssl.SSLError as error:
                return f"{files.certificate} cannot be used: {_reason(error)}"
    return ""


def refused_handshake(error: OSError | None, files: TlsFiles, peer: str) -> HypervisorError:
    """Return the error to raise after a handshake has failed, or vdsm has closed the connection without an answer.

    :param error: None if the connection ended without an error, as it may when vdsm rejects mom's certificate
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return HypervisorError(f"the certificate of {peer} {_verdict(error, files)}", hint=_ENROLL_HINT)
    alert = _reason(error).partition("alert ")[2] if isinstance(error, ssl.SSLError) else ""
    problem = own_certificate_problem(files)
    if error is None or alert or problem:
        message = "; ".join(filter(None, (f"{peer} does not accept the certificate {files.certificate}", alert, problem)))
        return PermissionDenied(message, hint=_ENROLL_HINT if problem else "the certificate must be signed by the CA that vdsm trusts")
    return HypervisorError(f"no TLS connection with {peer}: {_reason(error)}", hint=_NO_TLS_HINT)


def _verdict(error: ssl.SSLCertVerificationError, files: TlsFiles) -> str:
    if error.verify_code == _EXPIRED:
        return "has expired"
    if error.verify_code == _NOT_YET_VALID:
        return "is not valid yet"
    if error.verify_code in _OTHER_CA:
        return f"is not signed by the CA in {files.ca}: {error.verify_message}"
    return f"is not accepted: {error.verify_message}"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return printable(reason.replace("_", " ").lower() if isinstance(reason, str) else str(error), 120)
