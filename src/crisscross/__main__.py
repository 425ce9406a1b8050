"""`python -m crisscross`."""

import sys

from crisscross.cli import main

sys.exit(main())
