"""`python -m vsml`, the same as `vsml`."""

import sys

from vsml.cli import main

sys.exit(main())
