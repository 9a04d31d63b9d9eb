"""`python -m ddnet` is `ddnet`."""

import sys

from ddnet.cli.main import main

sys.exit(main())
