"""The Porter stemmer as Lucene's PorterStemFilter applies it.

Source: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the two changes of his
later programs that Lucene has: "bli" becomes "ble" (the paper has "abli" to "able"), and "logi" becomes "log".
Java counts UTF-16 units, so a letter beyond the basic plane counts as two consonants.
"""

from __future__ import annotations

import re

_STEP3 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_STEP4 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP5 = (
    "al ance ence er ic able ible ant ement ment ent sion tion ou ism ate iti ous ive ize"  # -ion goes after s, t only
)


def _longest_suffix(suffixes: str) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(sorted(suffixes.split(), key=len, reverse=True))})$")


_SUFFIX3, _SUFFIX4, _SUFFIX5 = map(_longest_suffix, (" ".join(_STEP3), " ".join(_STEP4), _STEP5))
_ENDS3, _ENDS4, _ENDS5 = tuple(_STEP3), tuple(_STEP4), tuple(_STEP5.split())
_ENDS = ("s", "ed", "ing", "y", "e", "l", "i", "er", "or", "ism", "ion", "ic", "nt", "ou")
"""Endings of the suffixes of all steps; any other word is its own stem."""
_VOWEL_Y = re.compile("([^aeiou])y")
_VOWEL_THEN_CONSONANT = re.compile("[aeiou][^aeiou]")
_SHORT = re.compile("[^aeiou][aeiou][^aeiouwxy]$")


def _shape(text: str) -> str:
    """The text with each y that is a vowel (after a consonant) replaced by i."""
    return _VOWEL_Y.sub(r"\1i", text) if "y" in text else text


def _measure(text: str) -> int:
    """Porter's m: number of vowel-consonant transitions."""
    return len(_VOWEL_THEN_CONSONANT.findall(_shape(text)))


def _has_vowel(text: str) -> bool:
    return any(letter in "aeiou" for letter in _shape(text))


def _doubled(text: str) -> bool:
    """Whether the text ends in the same consonant twice."""
    return len(text) > 1 and text[-1] == text[-2] and _shape(text)[-1] not in "aeiou"


def _short(text: str) -> bool:
    """Porter's condition ``*o``: consonant, vowel, consonant at the end, the last none of w, x, y."""
    return _SHORT.search(_shape(text)) is not None


def _inflections(word: str) -> str:
    """Steps 1 and 2: plurals, -ed, -ing, and y to i."""
    if word[-1] == "s":
        if word.endswith(("sses", "ies")):
            word = word[:-2]
        elif word[-2] != "s":
            word = word[:-1]
    if word[-1] not in "dgy":
        return word
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) > 0 else word
    else:
        stem = word[:-2] if word.endswith("ed") else word[:-3] if word.endswith("ing") else ""
        if stem and _has_vowel(stem):
            if stem.endswith(("at", "bl", "iz")) or (_measure(stem) == 1 and _short(stem)):
                word = stem + "e"
            else:
                word = stem[:-1] if _doubled(stem) and stem[-1] not in "lsz" else stem
    return word[:-1] + "i" if word.endswith("y") and _has_vowel(word[:-1]) else word


def _derivations(word: str) -> str:
    """Steps 3 to 5: derivational suffixes."""
    for ends, pattern, replacements in ((_ENDS3, _SUFFIX3, _STEP3), (_ENDS4, _SUFFIX4, _STEP4)):
        if word.endswith(ends) and (match := pattern.search(word)) and _measure(word[: match.start()]) > 0:
            word = word[: match.start()] + replacements[match[0]]
    if word.endswith(_ENDS5) and (match := _SUFFIX5.search(word)):
        stem = word[: match.start()] + (match[0][0] if match[0] in ("sion", "tion") else "")
        word = stem if _measure(stem) > 1 else word
    return word


def _final(word: str) -> str:
    """Step 6: a final e, and one of two final l."""
    whole = word
    if word.endswith("e"):
        measure = _measure(whole)
        if measure > 1 or (measure == 1 and not _short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("l") and _doubled(word) and _measure(whole) > 1 else word


def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters are unchanged."""
    if not word.isascii() and max(word) > "\uffff":
        units = "".join(map(chr, memoryview(word.encode("utf-16-le")).cast("H")))
        return _stem(units).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return _stem(word)


def _stem(word: str) -> str:
    return _final(_derivations(_inflections(word))) if len(word) > 2 and word.endswith(_ENDS) else word
