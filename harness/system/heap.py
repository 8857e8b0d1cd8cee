"""Freed memory, kept for the next allocation or returned to the system. With glibc; elsewhere nothing happens.

By default glibc returns large blocks at once. The temporary arrays of a forward pass are freed and allocated again in
every layer, so the system would clear their pages each time.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

KEPT = 1 << 27
"""Bytes of free memory at the end of the heap that are kept."""
LARGEST = 1 << 25
"""Larger blocks are returned when they are freed; glibc's maximum."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt."""


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation, up to `KEPT` bytes."""
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(TRIM_THRESHOLD, KEPT)
        library.mallopt(MMAP_THRESHOLD, LARGEST)


def trim_heap() -> None:
    """Return freed memory to the system: glibc keeps pieces such as a layer's weights."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
