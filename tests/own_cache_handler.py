"""Our handler on a worker with a disk of its own, as RunPod's workers have."""

import os
import runpy
from pathlib import Path

os.environ["SEEDPOD_CACHE_DIR"] = str(Path(os.environ["SEEDPOD_CACHE_DIR"]) / os.environ["RUNPOD_POD_ID"])
handler = Path(__file__).parents[1] / "runpod_service" / "handler.py"
runpy.run_path(str(handler), run_name="__main__")
