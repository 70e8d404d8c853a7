"""The setting `kubelet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from mom_core import Duration, StrictModel

ACCOUNT: Final = "var/run/secrets/kubernetes.io/serviceaccount"
"""Credentials of a container's service account."""


class KubeletSettings(StrictModel):
    """Access to the node's kubelet, for pods' requests and eviction thresholds."""

    every: Annotated[Duration, Field(ge=0, le=3600)] = 30.0
    """How often to ask the kubelet; mom also asks soon after new pods start. `0s`: never; mom then uses cgroups, files and settings."""
    timeout: Annotated[Duration, Field(gt=0, le=60)] = 5.0
    """Timeout of one answer. Nothing else waits for it."""
    address: str = ""
    """The kubelet's address. Unset: the variable HOST_IP, or else this machine (127.0.0.1)."""
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """The kubelet's TLS port. Unset: the port in its configuration, or else 10250."""
    node: str = ""
    """The node's name in the kubelet's certificate. Unset: the variable NODE_NAME, the kubelet's command line, or the host's name."""
    token: Path = Path(f"/{ACCOUNT}/token")
    """Token of a service account that may get `nodes/pods` and `nodes/configz` (before Kubernetes 1.33: `nodes/proxy`)."""
    certificate: Path = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")
    """The node's own certificate with its key, used if there is no token or the kubelet refuses it."""
    ca: Path | None = None
    """Certificate of the signer of node certificates. Unset: the kubelet's own certificate on this node if readable, or else the cluster's
    CA. mom checks the certificate before it sends anything."""
