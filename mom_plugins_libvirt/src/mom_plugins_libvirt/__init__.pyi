from .plugin import LibvirtPlugin as LibvirtPlugin
from .api import binding as binding
from .connection import Connection as Connection
from .connection_settings import ConnectionSettings as ConnectionSettings
from .domain_xml import memory_of as memory_of, parsed as parsed
from .domains import ImpossibleAnswer as ImpossibleAnswer, SamplingSettings as SamplingSettings
from .event_loop import EventLoop as EventLoop
from .fields import GUEST_FIELDS as GUEST_FIELDS, HOST_FIELDS as HOST_FIELDS
from .hypervisor import LibvirtHypervisor as LibvirtHypervisor
from .qemu_process import pid_of as pid_of
from .uri import checked_uri as checked_uri
from .nova import NovaPlugin as NovaPlugin
