"""Stand-in for a node's kubelet: a real HTTPS server with `/pods`, `/configz`, authentication, and faults."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NODE = "node7"
TOKEN = "a.service-account.token"  # noqa: S105  # of this stand-in only


class Behaviour(StrEnum):
    """Kind of answers."""

    WELL = "well"
    DRIP = "drip"  #: single bytes without an end
    GARBAGE = "garbage"  #: invalid JSON
    FORBIDDEN = "forbidden"
    HUGE = "huge"  #: too long
    CUT = "cut"  #: half of an answer
    CLOSED = "closed"  #: closes the connection


@dataclass
class Authority:
    """Certificate authority."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.certificate = self._signed(self.name, self.key.public_key(), ca=True)

    def _signed(self, name: str, key: ec.EllipticCurvePublicKey, *, ca: bool = False, group: str = "") -> x509.Certificate:
        now = datetime.now(UTC)
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]),
            x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key,
            x509.random_serial_number(),
            now - timedelta(days=1),
            now + timedelta(days=30),
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name.lower())]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, group: str = "") -> tuple[bytes, bytes]:
        """Return a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        signed = self._signed(name.replace(":", "-"), key.public_key(), group=group)
        return signed.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def pod(
    uid: str, request: str | None, *, name: str = "virt-launcher-vm-x", namespace: str = "tenant", leaves: bool = False
) -> dict[str, Any]:
    """Return a virt-launcher pod in kubelet's form."""
    resources = {"limits": {"devices.kubevirt.io/kvm": "1"}, "requests": {"cpu": "100m", **({"memory": request} if request else {})}}
    annotations = {"kubevirt.io/domain": "vm", **({"descheduler.alpha.kubernetes.io/eviction-in-progress": "kubevirt"} if leaves else {})}
    return {
        "metadata": {
            "uid": uid,
            "name": name,
            "namespace": namespace,
            "annotations": annotations,
            "labels": {"kubevirt.io": "virt-launcher"},
        },
        "spec": {
            "containers": [
                {"name": "guest-console-log", "resources": {"requests": {"memory": "35M"}}},
                {"name": "compute", "image": "virt-launcher", "env": [{"name": "POD_NAME", "value": name}] * 10, "resources": resources},
            ]
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}] * 5},
    }


@dataclass
class StandInKubelet:
    """Kubelet whose answers tests can change at any time. `allows` is `token`, `certificate` or empty."""

    folder: Path
    pods: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    behaviour: Behaviour = Behaviour.WELL
    allows: frozenset[str] = frozenset({"token"})
    asked: list[str] = field(default_factory=list)
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.asked.append(request.path)
        known = {"/pods": {"kind": "PodList", "items": list(self.pods)}, "/configz": {"kubeletconfig": dict(self.config)}}
        if self.behaviour is Behaviour.CLOSED:
            return
        if self.behaviour is Behaviour.DRIP:
            self._drip(request)
        elif self.behaviour is Behaviour.HUGE:
            self._flood(request)
        elif self.behaviour is Behaviour.FORBIDDEN or not self._lets_in(request):
            self.say(request, 403, b"Forbidden (user=system:serviceaccount:mom:mom, verb=get, resource=nodes, subresource=proxy)")
        elif request.path not in known:
            self.say(request, 404, b"404 page not found")
        else:
            content = b"<html>" if self.behaviour is Behaviour.GARBAGE else json.dumps(known[request.path]).encode()
            self.say(request, 200, content, cut=self.behaviour is Behaviour.CUT)

    def _lets_in(self, request: BaseHTTPRequestHandler) -> bool:
        if "token" in self.allows and request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        return "certificate" in self.allows and bool(request.connection.getpeercert())

    @staticmethod
    def say(request: BaseHTTPRequestHandler, status: int, content: bytes, *, cut: bool = False) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2] if cut else content)

    def _drip(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        while not self.over.wait(0.05):
            request.wfile.write(b" ")

    def _flood(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        while not self.over.is_set():
            request.wfile.write(b" " * (1 << 20))

    # --- files of the node ---------------------------------------------------------------------------------------------------------

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file of the node or of mom's container."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def configure(self, text: str = "") -> None:
        """Write kubelet's configuration like kubeadm."""
        self.write("var/lib/kubelet/config.yaml", f"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}")


@contextmanager
def kubelet(folder: Path, *, own_certificate: bool = True, name: str = NODE) -> Iterator[StandInKubelet]:
    """Run a kubelet, with its files on the node.

    :param own_certificate: whether it made its certificate, in `/var/lib/kubelet/pki`; otherwise, the cluster signed it
    """
    one, cluster, itself = StandInKubelet(folder), Authority("kubernetes"), Authority(f"{NODE}-ca")

    class Handler(BaseHTTPRequestHandler):
        timeout = 60

        def do_GET(self) -> None:
            with suppress(OSError):
                one.answer(self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as http.server has it
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients may disconnect, or refuse the certificate

    server = Server(("127.0.0.1", 0), Handler)
    one.port = server.server_address[1]
    signer = itself if own_certificate else cluster
    certificate, key = signer.issue(name)
    if own_certificate:
        one.write("var/lib/kubelet/pki/kubelet.crt", certificate + itself.pem)
    one.write("var/run/secrets/kubernetes.io/serviceaccount/ca.crt", cluster.pem)
    one.write("var/run/secrets/kubernetes.io/serviceaccount/token", TOKEN + "\n")
    one.write("etc/hostname", f"{NODE}\n")
    shown = one.write("shown.pem", certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=cluster.pem.decode())
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    one.configure(f"port: {one.port}\n")
    client, client_key = cluster.issue(f"system:node:{NODE}", "system:nodes")
    one.write("client.pem", client + client_key)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
