"""`python -m ddnet` is `ddnet`."""

import sys

from ddnet.cli import main

sys.exit(main())
