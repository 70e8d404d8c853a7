"""`python -m mom_daemon` is `mom`."""

from __future__ import annotations

import sys

from mom_daemon.cli import main

sys.exit(main())
