"""Packs as Unix ``compress`` does: what the tests unpack, once gzip has agreed that it is right."""

from __future__ import annotations


def pack(content: bytes, widest: int = 16, clear_at: int | None = None) -> bytes:
    """``clear_at``: the table is emptied when it has that many entries, as ``compress`` does when it packs worse."""
    groups: list[tuple[int, list[int]]] = [(9, [])]
    table = {bytes([value]): value for value in range(256)}
    before, free = b"", 257

    def emit(code: int) -> None:
        groups[-1][1].append(code)

    for value in content:
        extended = before + bytes([value])
        if extended in table:
            before = extended
            continue
        emit(table[before])
        before = bytes([value])
        if free >= 1 << groups[-1][0] and groups[-1][0] < widest:
            groups.append((groups[-1][0] + 1, []))
        if free < 1 << widest:
            table[extended] = free
            free += 1
        if clear_at is not None and free >= clear_at:
            emit(256)
            groups.append((9, []))
            table, free = {bytes([value]): value for value in range(256)}, 257
    if before:
        emit(table[before])
    packed = bytearray(b"\x1f\x9d" + bytes([0x80 | widest]))
    for position, (width, codes) in enumerate(groups):
        number = sum(code << (width * place) for place, code in enumerate(codes))
        size = -(-len(codes) * width // 8)
        if position < len(groups) - 1:
            size = -(-len(codes) // 8) * width
        packed += number.to_bytes(size, "little")
    return bytes(packed)
