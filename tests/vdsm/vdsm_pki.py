"""Certificates of an oVirt host: a CA, and a certificate for the host's name that both sides use."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST_NAME = "host7.example.org"
"""Not localhost, to which mom connects."""


@dataclass(frozen=True)
class Ca:
    """A CA that can sign."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_ca(name: str = "the engine's CA") -> Ca:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, name, key.public_key(), timedelta(days=-1), timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Ca(key, builder.sign(key, hashes.SHA256()))


def write_pki(folder: Path, ca: Ca, *, begins: timedelta = timedelta(days=-1), ends: timedelta = timedelta(days=365)) -> Path:
    """Write a key, its certificate (name only in CN, no subjectAltName) and the CA's to vdsm's paths. Return the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = _builder(HOST_NAME, str(issuer), key.public_key(), begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(usage, critical=False).sign(ca.key, hashes.SHA256())
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    (folder / "certs").mkdir(exist_ok=True)
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    for path, content in (
        ("keys/vdsmkey.pem", pem),
        ("certs/vdsmcert.pem", certificate.public_bytes(serialization.Encoding.PEM)),
        ("certs/cacert.pem", ca.certificate.public_bytes(serialization.Encoding.PEM)),
    ):
        temporary = folder / f"{path}.new"
        temporary.write_bytes(content)
        temporary.replace(folder / path)
    return folder


def _builder(name: str, issuer: str, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example.org"), x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
