"""The process and its machine: log, timers, versions and hardware, BLAS threads, the home folder."""
