"""Values of options: written on one line, read back as they were, refused in one sentence."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.registry.option_values import command_line, command_words, read_option_values, written
from harness.registry.parser import canonical, parse, split_options, typed
from harness.types import UserError

PROSE = st.text(st.characters(codec="utf-8") | st.sampled_from(' ,:="()\\@\n\t\u200b\u2028\u202e'), max_size=30)


@given(PROSE)
def test_a_value_that_is_written_is_one_printable_line_and_read_as_it_was(value: str) -> None:
    text = written(value)
    assert text.isprintable()
    assert text == text.strip()
    assert read_option_values(text, "x") == value


@given(PROSE, PROSE)
def test_options_are_taken_apart_whatever_their_values_hold(first: str, second: str) -> None:
    text = f"mine:first={written(first)},second={written(second)}"
    assert split_options(text) == ("mine", {"first": first, "second": second})
    found = parse(f"rrf(bm25,{text},other):k=1,note={written(second)}")
    assert found == ("rrf", ["bm25", text, "other"], {"k": "1", "note": second})


@pytest.mark.parametrize(
    "plain", ["", "float32", "cuda:1", "0.3/0.7", "a b", "(q)", "seed42+x", "a=b", "it's", "東京", "\\d"]
)
def test_a_value_without_special_characters_is_written_as_it_is(plain: str) -> None:
    assert written(plain) == plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"Given a query, find it: "', "Given a query, find it: "),
        (r'"say \"no\" \\ twice\n"', 'say "no" \\ twice\n'),
        (' "blanks around" ', "blanks around"),
        (r'"\u00e9\ud83d\ude42"', "é🙂"),
        ('"line\nbreak"', "line\nbreak"),
        ('""', ""),
        (" unquoted ", " unquoted "),
    ],
)
def test_what_is_quoted_is_a_json_string(text: str, value: str) -> None:
    assert read_option_values(text, "x") == value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"Instruct: a, b\nQuery: \n", "Instruct: a, b\nQuery: "),
        (b"two\n\n", "two\n"),
        (b"dos\r\n", "dos"),
        (b"carriage\r", "carriage\r"),
        (b" blanks ", " blanks "),
        ("\ufeffé".encode(), "\ufeffé"),
        (b"", ""),
    ],
)
def test_a_file_is_its_content_but_for_one_line_end(content: bytes, value: str, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes(content)
    assert read_option_values(f"@{tmp_path / 'prompt.txt'}", "x") == value
    assert split_options(f"mine:a=@{tmp_path / 'prompt.txt'},b=2")[1] == {"a": value, "b": "2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"open', ["not closed", "JSON"]),
        (r'"a\d"', ["an escape that JSON does not know", r"\\ stand for"]),
        ('"a" b', ["' b' follows the closing quotation mark", "a comma ends an option"]),
        ("@absent.txt", ["absent.txt", "cannot be read (No such file", '"@absent.txt"']),
        ("@.", ["cannot be read (Is a directory)"]),
        ("@/dev/zero", ["cannot be read (not a regular file)"]),
        ("@latin.txt", ["latin.txt", "not UTF-8"]),
        ("@large.txt", ["large.txt", "more than 1,000,000 bytes"]),
        ("@\0", ["cannot be read"]),
    ],
)
def test_a_value_that_cannot_be_read_is_one_sentence(
    text: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("large.txt").write_bytes(b"x" * 1_000_001)
    with pytest.raises(UserError) as caught:
        read_option_values(text, "prompt=...")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_are_read_for_what_a_user_types_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    text = f"mine:prompt=@{tmp_path / 'secret'}"
    assert canonical(text, typed=True) == canonical("mine:prompt=s")
    assert canonical(text) != canonical("mine:prompt=s")
    assert typed({"name": "mine", "passed": {"prompt": f"@{tmp_path / 'secret'}"}}) == text.replace("@", '"@') + '"'
    assert typed({"name": text, "passed": {}}) == ""


def test_labels_are_the_same_model_in_whatever_order_and_form_they_are_written() -> None:
    label = 'rrf(bm25:b=0.5,k1=2.0,ck@abc:query_prompt="a, b"):k=20.0'
    for other in (
        'rrf(bm25:k1=2,b=0.5,ck@abc:query_prompt="a, b"):k=20',
        'rrf(bm25:b=.5,k1=2,ck@abc:query_prompt="a,\\u0020b"):k=20',
    ):
        assert canonical(other) == canonical(label)
    for other in (
        'rrf(bm25:b=0.5,k1=2.0,ck@abc:query_prompt="a,b"):k=20',
        "rrf(bm25:b=0.5,k1=2.0):k=20",
        "rrf",
        "a (in b)",
    ):
        assert canonical(other) != canonical(label)


WORDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(" $'\"\\\n\t\x1b"), max_size=12)
)


@given(WORDS)
def test_a_command_is_recorded_on_one_line_and_taken_apart_again(words: list[str]) -> None:
    line = command_line(words)
    assert line.isprintable()
    assert command_words(line) == words


def test_a_command_line_of_megabytes_is_not_taken_apart() -> None:
    with pytest.raises(ValueError, match="1,000,000 characters"):  # `shlex` would take a minute
        command_words("x" * 1_000_000)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_a_shell_reads_the_recorded_command_as_it_was_typed() -> None:
    words = ["a\nb", "it's $'x'", "tab\t\\", "\x1b[1m\u200b", "plain", ""]
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command_line(words)}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words
