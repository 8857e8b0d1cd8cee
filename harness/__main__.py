"""``python -m harness``."""

from harness.cli.start import main

main()
