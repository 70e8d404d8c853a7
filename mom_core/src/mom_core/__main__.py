"""`python -m mom_core` is `mom`."""

from __future__ import annotations

import sys

from mom_core.cli import main

sys.exit(main())
