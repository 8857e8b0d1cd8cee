"""Unpacks what Unix ``compress`` packed (``.Z``, ``.z``), as the TREC disks were shipped; Python has no decoder for it.

The format is public: two magic bytes, a byte with the widest code and the block-mode flag, then LZW codes of 9 bits and
more, least significant bit first. Codes of one width come in groups of eight; whenever the width changes, the rest
of the group in hand is padding.
"""

from __future__ import annotations

MAGIC = b"\x1f\x9d"
CLEAR = 256
"""The code that empties the table, in block mode."""
FIRST_WIDTH, WIDEST = 9, 16
LARGEST = 1 << 28
"""Bytes of one file: those of the TREC disks hold a few megabytes."""


class Damaged(Exception):
    """The bytes are no output of ``compress``; the message says where."""


def unpack(packed: bytes) -> bytes:
    """The original bytes; `Damaged` where ``packed`` is not what ``compress`` writes."""
    if packed[:2] != MAGIC or len(packed) < 3:
        raise Damaged("no compress header")
    widest, block_mode = packed[2] & 0x1F, bool(packed[2] & 0x80)
    if not FIRST_WIDTH <= widest <= WIDEST:
        raise Damaged(f"codes of {widest} bits")
    first_free = 257 if block_mode else 256
    empty = [bytes([value]) for value in range(256)] + [b""] * (first_free - 256)
    table, width, position, end = empty.copy(), FIRST_WIDTH, 3 * 8, len(packed) * 8
    group = position
    """Bit where the codes of this width began."""
    unpacked: list[bytes] = []
    before, size = b"", 0
    while position + width <= end:
        start = position >> 3
        code = int.from_bytes(packed[start : start + 3], "little") >> (position & 7) & (1 << width) - 1
        position += width
        if code == CLEAR and block_mode:
            table, before = empty.copy(), b""
            position, width = _next_group(position, group, width), FIRST_WIDTH
            group = position
            continue
        if code < len(table):
            entry = table[code]
        elif code == len(table) and before:  # the string that this very code is about to define
            entry = before + before[:1]
        else:
            raise Damaged(f"the code {code} at byte {start} stands for nothing yet")
        unpacked.append(entry)
        if (size := size + len(entry)) > LARGEST:
            raise Damaged(f"more than {LARGEST:,} bytes")
        if before and len(table) < 1 << widest:
            table.append(before + entry[:1])
        before = entry
        # The packer is one entry ahead, so its table fills a width when ours lacks one entry of it.
        if len(table) == (1 << width) and width < widest:
            position, width = _next_group(position, group, width), width + 1
            group = position
    return b"".join(unpacked)


def _next_group(position: int, group: int, width: int) -> int:
    return position + -(position - group) % (8 * width)
