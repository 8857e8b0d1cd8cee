"""The Python API, which `harness` re-exports: the work of the commands, with objects and data in memory."""
