"""Make `python -m mom_daemon` the same as `mom`."""

import sys

from mom_daemon.cli import main

sys.exit(main())
