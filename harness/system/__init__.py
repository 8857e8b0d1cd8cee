"""The process and its machine: log, timers, versions and hardware, threads of BLAS."""
