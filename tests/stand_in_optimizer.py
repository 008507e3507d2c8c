"""``optimizer.py`` with trainer processes that hold no Keras. A trial takes up to STAND_IN_SECONDS, or no time."""

import os
import sys
from pathlib import Path

from seedpod.cli import main

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where the trainer processes find their trainer
    os.environ.setdefault("STAND_IN_SECONDS", "0")
    sys.exit(main(trainer="stand_in_trainers:make_slow"))
