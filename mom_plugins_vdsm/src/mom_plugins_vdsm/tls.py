"""TLS as in vdsm's own clients.

mom verifies that vdsm's CA signed the certificate, but no host name, because mom usually connects to localhost.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mom_core import HypervisorError, PermissionDenied, printable

_READABLE_HINT = "run mom as user vdsm with group kvm"
_NAMED_HINT = "the engine creates this file when it installs the host; to use another folder, set pki_directory for the vdsm plugin"
_ENROLL_HINT = "let the engine issue new certificates for this host: Installation, Enroll Certificate"
_NO_TLS_HINT = "set tls: false for the vdsm plugin, if vdsm's own configuration has ssl = false in its section [vars]"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: mom's key and certificate (usually vdsm's), and the certificate of mom's and vdsm's CA."""

    key: Path
    certificate: Path
    ca: Path


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """Read the files, and return a TLS context. Raise `HypervisorError` if a file is unreadable or invalid."""
    for path in (files.key, files.certificate, files.ca):
        _check_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=files.ca)
    except (ssl.SSLError, ValueError) as error:
        raise HypervisorError(f"{files.ca} contains no CA certificate: {_reason(error)}") from error
    try:
        # Otherwise, OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except ssl.SSLError as error:
        message = f"{files.certificate} and its key {files.key} cannot be used: {_reason(error)}"
        raise HypervisorError(message, hint=_ENROLL_HINT) from error
    return context


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except PermissionError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}", hint=_READABLE_HINT) from error
    except OSError as error:
        raise HypervisorError(f"{path} cannot be read: {error.strerror}", hint=_NAMED_HINT) from error


def refused_handshake(error: OSError | None, files: TlsFiles, peer: str) -> HypervisorError:
    """Return the error to raise after a handshake has failed, or vdsm has closed the connection without an answer.

    :param error: None if the connection ended without an error, as it may when vdsm rejects mom's certificate
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return HypervisorError(f"the certificate of {peer} does not fit the CA in {files.ca}: {error.verify_message}", hint=_ENROLL_HINT)
    alert = _reason(error).partition("alert ")[2] if isinstance(error, ssl.SSLError) else ""
    if error is None or alert:
        message = f"{peer} does not accept the certificate {files.certificate}" + (f": {alert}" if alert else "")
        return PermissionDenied(message, hint=_ENROLL_HINT)
    return HypervisorError(f"no TLS connection with {peer}: {_reason(error)}", hint=_NO_TLS_HINT)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return printable(reason.replace("_", " ").lower() if isinstance(reason, str) else str(error), 120)
