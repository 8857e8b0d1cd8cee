"""What the processor can do, from /proc/cpuinfo."""

from __future__ import annotations

import pytest

from harness.system import environment

FLAGS = "processor\t: 0\nmodel name\t: A processor\nflags\t\t: fpu sse2 avx2 avx512f {}\n"


@pytest.mark.parametrize(
    ("flags", "bfloat16", "amx"),
    [
        ("", False, False),
        ("avx512_bf16", True, False),
        ("amx_bf16 amx_tile amx_int8", True, True),
        ("amx_int8", False, False),
    ],
)
def test_amx_and_bfloat16_are_detected(monkeypatch: pytest.MonkeyPatch, flags: str, bfloat16: bool, amx: bool) -> None:
    monkeypatch.setattr(environment, "_read", lambda path: FLAGS.format(flags) if path == "/proc/cpuinfo" else "")
    assert environment.multiplies_bfloat16() == bfloat16
    assert environment.has_amx() == amx
    assert {"avx2", "avx512f", *flags.split()} & environment.FEATURES == environment.features()


def test_a_system_that_does_not_tell_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_read", lambda _: "")
    assert not environment.has_amx()
