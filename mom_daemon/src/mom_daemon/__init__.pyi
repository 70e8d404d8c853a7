from .run import (
    daemon_log as daemon_log,
    run_daemon as run_daemon,
)
from .status import (
    STATUS_FILE as STATUS_FILE,
    status_of as status_of,
)

__version__: str
