"""``python -m seedpod.report``: see apart.py."""

from seedpod.report.apart import main

main()
