"""``python -m seedpod.endpoint``: see serve.py."""

import sys

from seedpod.endpoint.serve import main

sys.exit(main(sys.argv[1:]))
