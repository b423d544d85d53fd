"""`python -m xferlab` is the command `xferlab`."""

import sys

from xferlab.cli import main

sys.exit(main())
