"""`python -m raymc.cli`."""

import sys

from raymc.cli import main

sys.exit(main())
