"""Decoder for Unix ``compress`` (``.Z``, ``.z``), the format of the TREC disks, which Python does not support.

The format has two magic bytes, a byte with the maximum code width and the block-mode flag, then LZW codes of 9 or more
bits, least significant bit first. Codes of one width come in groups of eight; when the width changes, the rest of the
current group is padding.
"""

from __future__ import annotations

MAGIC = b"\x1f\x9d"
CLEAR = 256
"""The code that clears the table, in block mode."""
FIRST_WIDTH, WIDEST = 9, 16
LARGEST = 1 << 28
"""Maximum unpacked size; files of the TREC disks have a few megabytes."""


class CorruptLzw(Exception):
    """The bytes are not output of ``compress``; the message says where."""


def unpack_lzw(packed: bytes) -> bytes:
    """Returns the original bytes; raises `CorruptLzw` if ``packed`` is not output of ``compress``."""
    if packed[:2] != MAGIC or len(packed) < 3:
        raise CorruptLzw("no compress header")
    widest, block_mode = packed[2] & 0x1F, bool(packed[2] & 0x80)
    if not FIRST_WIDTH <= widest <= WIDEST:
        raise CorruptLzw(f"codes of {widest} bits")
    first_free = 257 if block_mode else 256
    empty = [bytes([value]) for value in range(256)] + [b""] * (first_free - 256)
    table, width, position, end = empty.copy(), FIRST_WIDTH, 3 * 8, len(packed) * 8
    group = position
    """Bit offset of the first code of this width."""
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
        elif code == len(table) and before:  # the code that is being defined
            entry = before + before[:1]
        else:
            raise CorruptLzw(f"the code {code} at byte {start} is not defined yet")
        unpacked.append(entry)
        if (size := size + len(entry)) > LARGEST:
            raise CorruptLzw(f"more than {LARGEST:,} bytes")
        if before and len(table) < 1 << widest:
            table.append(before + entry[:1])
        before = entry
        # The encoder is one entry ahead, so its table is full for a width when ours lacks one entry.
        if len(table) == (1 << width) and width < widest:
            position, width = _next_group(position, group, width), width + 1
            group = position
    return b"".join(unpacked)


def _next_group(position: int, group: int, width: int) -> int:
    return position + -(position - group) % (8 * width)
