"""How the node's kubelet is asked, as an operator writes it in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from mom_core import Duration, StrictModel

ACCOUNT: Final = "var/run/secrets/kubernetes.io/serviceaccount"
"""Where a container finds the credentials of its service account."""


class KubeletSettings(StrictModel):
    """How the node's kubelet is asked what pods request, and at what it evicts them."""

    every: Annotated[Duration, Field(ge=0, le=3600)] = 30.0
    """How often it is asked, and soon after new pods have come. `0s`: never; then control groups, files and settings say what they can."""
    timeout: Annotated[Duration, Field(gt=0, le=60)] = 5.0
    """How long one answer may take. Nothing else waits for it."""
    address: str = ""
    """Where it listens. Unset: what the variable HOST_IP says, else this machine (127.0.0.1)."""
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Its port for TLS. Unset: what its configuration says, else 10250."""
    node: str = ""
    """The node's name, which its certificate must bear. Unset: what the variable NODE_NAME says, the kubelet's command line, or the host's
    name."""
    token: Path = Path(f"/{ACCOUNT}/token")
    """The token by which mom is let in: that of a service account that may get `nodes/pods` and `nodes/configz` (before Kubernetes 1.33
    `nodes/proxy`)."""
    certificate: Path = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")
    """The node's own certificate with its key, which is tried where there is no token, or that is refused."""
    ca: Path | None = None
    """The certificate of who signs those of nodes. Unset: the kubelet's own certificate on this node, where it can be read, or that of the
    cluster. Nobody is asked by TLS whose certificate cannot be checked."""
