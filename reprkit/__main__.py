"""`python -m reprkit` is the command `reprkit`."""

import sys

from reprkit.cli import main

sys.exit(main())
