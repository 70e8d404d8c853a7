from .run import (
    daemon_log as daemon_log,
    run_daemon as run_daemon,
)
from .status import (
    STATUS_FILE as STATUS_FILE,
    STATUS_FORMAT as STATUS_FORMAT,
    guaranteed_kib as guaranteed_kib,
    status_of as status_of,
)

__version__: str
