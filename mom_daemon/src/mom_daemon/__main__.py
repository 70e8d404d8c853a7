"""`python -m mom_daemon` is `mom`."""

import sys

from mom_daemon.cli import main

sys.exit(main())
