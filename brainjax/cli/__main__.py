"""`python -m brainjax.cli` is `brainjax`."""

import sys

from brainjax.cli import main

sys.exit(main())
