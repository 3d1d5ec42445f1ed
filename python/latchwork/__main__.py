"""``python -m latchwork`` is the command ``latchwork``."""

import sys

from latchwork.cli import main

sys.exit(main())
