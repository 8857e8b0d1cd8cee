"""``python -m harness``."""

from harness.start import main

main()
