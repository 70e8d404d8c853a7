from .connection import Connection as Connection, ConnectionSettings as ConnectionSettings
from .domain_xml import memory_of as memory_of, parsed as parsed
from .domains import SamplingSettings as SamplingSettings
from .fields import GUEST_FIELDS as GUEST_FIELDS, HOST_FIELDS as HOST_FIELDS
from .hypervisor import LibvirtHypervisor as LibvirtHypervisor
from .qemu_process import pid_of as pid_of
from .uri import checked_uri as checked_uri
