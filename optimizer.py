"""Search the hyperparameters of an image classifier: ``python optimizer.py help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # runs from a checkout without being installed

from seedpod.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
