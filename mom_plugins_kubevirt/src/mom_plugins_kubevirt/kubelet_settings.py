"""The setting `kubelet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from mom_core import Duration, StrictModel

ACCOUNT: Final = "var/run/secrets/kubernetes.io/serviceaccount"
"""Folder with the credentials of a container's service account."""


class KubeletSettings(StrictModel):
    """Access to the node's kubelet, for pods' requests and eviction thresholds."""

    every: Annotated[Duration, Field(ge=0, le=3600)] = 30.0
    """Pause between queries to the kubelet. mom also queries it soon after new pods start. `0s`: mom never queries the kubelet, and uses
    cgroups, files and settings instead."""
    timeout: Annotated[Duration, Field(gt=0, le=60)] = 5.0
    """Timeout of one answer. A late answer delays nothing else in mom."""
    address: str = ""
    """The kubelet's address. Unset: the variable HOST_IP, or else this machine (127.0.0.1)."""
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """The kubelet's TLS port. Unset: the port in its configuration, or else 10250."""
    node: str = ""
    """The node's name in the kubelet's certificate. Unset: the variable NODE_NAME, the kubelet's command line, or the host's name."""
    token: Path = Path(f"/{ACCOUNT}/token")
    """Token of a service account that may get `nodes/pods` and `nodes/configz` (before Kubernetes 1.33: `nodes/proxy`)."""
    certificate: Path = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")
    """The node's own certificate with its key. mom uses it if there is no token, or if the kubelet refuses the token."""
    ca: Path | None = None
    """Certificate of the authority (CA) that signs node certificates. mom verifies the kubelet's certificate before it sends anything.
    Unset: mom expects the certificate that the kubelet has on this node, or if that is unreadable, one signed by the cluster's CA."""
