from .plugin import LibvirtPlugin as LibvirtPlugin
from .api import binding as binding
from .connection import Connection as Connection, ConnectionSettings as ConnectionSettings
from .domains import SamplingSettings as SamplingSettings
from .events import EventLoop as EventLoop
from .domain_xml import GUEST_FIELDS as GUEST_FIELDS
from .hypervisor import LibvirtHypervisor as LibvirtHypervisor
from .nova import NovaPlugin as NovaPlugin
