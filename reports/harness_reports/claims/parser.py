"""Reads a claims file, and checks every name in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.datasets import catalog
from harness.types import UserError
from harness_reports.claims.criteria import ComparisonCriterion, Coverage, Name, SyntaxFault, parse_criterion
from harness_reports.claims.model import SECTIONS, Claim, Claims, Expected, entries
from harness_reports.claims.toml_positions import Keys, TomlFile
from harness_reports.data.leaderboard import MEASURE

FILE_KEYS = ("title", "source", "on", "measure", "datasets", "models", "expected", "claim")
EXPECTED_KEYS = ("model", "models", "source", "measure", "tolerance", "relation", "reproduction", "note", "values")
VALUE_KEYS = ("value", "source", "tolerance", "note")
CLAIM_KEYS = ("name", "text", "criterion", "over", "note")
TOLERANCE = 0.05
"""Of an expected value that states none: what rounding to one decimal leaves open."""


@dataclass(frozen=True, slots=True)
class Known:
    """Names that mean something beyond the file: of the plug-ins and of the results."""

    models: Collection[str] = ()
    datasets: Collection[str] = ()
    figures: Collection[str] = ()
    """Of the results' sections, as in ``geometry.documents.isotropy``."""
    place: str = ""
    """Dataset or suite of a criterion that names none; if empty, it has to name one."""


def read_claims(path: Path, known: Known, given: Sequence[str] = ()) -> Claims:
    """Reads a file; ``given`` holds NAME=LABEL as typed. UserError with line and column of what is wrong."""
    return _Reading(TomlFile(path), known).claims(given)


def check_claims(file: TomlFile, known: Known) -> list[Claim]:
    """The [[claim]] tables of a file of another kind. UserError as for `read_claims`."""
    reading = _Reading(file, known)
    return [reading._claim(keys) for keys in file.tables("claim")]


@dataclass(slots=True)
class _Reading:
    file: TomlFile
    known: Known
    used: dict[str, None] = field(default_factory=dict)
    """Names of models in expected values and criteria."""
    measures: dict[str, str] = field(default_factory=dict)
    """As typed -> as results have it."""

    def claims(self, given: Sequence[str]) -> Claims:
        self.file.table((), FILE_KEYS)
        models = {name: self._labels(("models", name)) for name in self.file.get(("models",), dict, {})}
        datasets = {*self.known.datasets, *self.file.texts(("datasets",))}
        self.known = Known({*models, *self.known.models}, datasets, self.known.figures)
        expected = [row for keys in self.file.tables("expected") for row in self._expected(keys)]
        claims = [self._claim(keys) for keys in self.file.tables("claim")]
        if not expected and not claims:
            raise self.file.fault((), "it claims nothing; add a [[claim]] with a criterion, or [[expected]] values")
        names = dict.fromkeys([*models, *self.used])
        models |= _given(given, names, self.file.path, self.known.models)
        title, source = (self.file.get((key,), str, "") for key in ("title", "source"))
        return Claims(title or self.file.path.stem, source, models, expected, claims)

    def _labels(self, keys: Keys) -> tuple[str, ...]:
        labels = self.file.texts(keys)
        if not labels or len({*labels}) < len(labels):
            raise self.file.fault(keys, 'a model is a label of results, or a list of different ones, as in "bm25"')
        return labels

    def _expected(self, keys: Keys) -> Iterator[Expected]:
        self.file.table(keys, EXPECTED_KEYS)
        [key, *more] = [key for key in ("model", "models") if self.file.at((*keys, key)) is not None] or [""]
        models = self.file.texts((*keys, key)) if key and not more else ()
        if not models:
            raise self.file.fault(keys, "[[expected]] needs either model or models")
        for model in models:
            self._model(model, (*keys, key))
        places = self.file.get((*keys, "values"), dict, {})
        if not places:
            raise self.file.fault(keys, "[[expected]] needs values, as in values = { scifact = 66.5 }")
        for place in places:
            yield from self._value(keys, place, models)

    def _value(self, keys: Keys, place: str, models: Sequence[str]) -> Iterator[Expected]:
        """What stands under a dataset's name: a number, or a table with what is said of this value alone."""
        file, at = self.file, (*keys, "values", place)
        self._place(place, at)
        own = isinstance(file.at(at), dict)
        if own:
            file.table(at, VALUE_KEYS)
        value = file.number((*at, "value") if own else at)
        tolerance = file.number((*keys, "tolerance"), TOLERANCE)
        said = {key: file.get((*keys, key), str, "") for key in ("source", "note")}
        if own:
            tolerance = file.number((*at, "tolerance"), tolerance)
            said = {key: file.get((*at, key), str, usual) for key, usual in said.items()}
        if not said["source"]:
            raise file.fault(at, "a value needs a source; add source = to it or to its [[expected]]")
        relation = file.get((*keys, "relation"), str, "=")
        if relation not in ("=", ">="):
            raise file.fault((*keys, "relation"), f'relation is {relation!r}, but it must be "=" or ">="')
        measure = self._usual_measure(keys)
        exact = file.get((*keys, "reproduction"), bool, False)
        for model in models:
            what = (model, place, measure, value, tolerance, relation, exact)
            yield Expected(*what, source=said["source"], note=said["note"], at=file.positions.of(at))

    def _claim(self, keys: Keys) -> Claim:
        self.file.table(keys, CLAIM_KEYS)
        name, text, typed, note = (self.file.get((*keys, k), str, "") for k in ("name", "text", "criterion", "note"))
        if not name or not (text or typed):
            raise self.file.fault(keys, "[[claim]] needs a name, and a criterion or at least a text")
        over = self.file.get((*keys, "over"), str, "datasets")
        if over not in ("datasets", "queries"):
            raise self.file.fault((*keys, "over"), f'over is {over!r}, but it must be "datasets" or "queries"')
        criterion, measure, place = None, "", ""
        if typed:
            criterion = self._criterion(typed, (*keys, "criterion"))
            named = criterion.measure if isinstance(criterion, ComparisonCriterion) else None
            at = (*keys, "criterion")
            measure = self._measure(at, named.text, named) if named else self._usual_measure(())
            place = criterion.place.text if criterion.place else self._usual_place()
        return Claim(name, text, typed, criterion, measure, place, over, note, self.file.positions.of(keys))

    def _criterion(self, typed: str, keys: Keys) -> ComparisonCriterion | Coverage:
        try:
            criterion = parse_criterion(typed)
        except SyntaxFault as fault:
            raise self.file.fault(keys, f"the criterion cannot be read: {fault}", fault.at) from fault
        for model in criterion.models:
            self._model(model.text, keys, model)
        place = criterion.place.text if criterion.place else self._usual_place()
        if not place:
            raise self.file.fault(keys, 'it names no dataset or suite; end it with one, as in "... on beir18"')
        if criterion.place or not self.known.place:
            self._place(place, keys if criterion.place else ("on",), criterion.place)
        if isinstance(criterion, Coverage) and (count := criterion.count) and float(count.text) != len(entries(place)):
            stated = f"it says {count.text} datasets, but {place} has {len(entries(place))}"
            raise self.file.fault(keys, stated, count.at)
        return criterion

    def _model(self, name: str, keys: Keys, inside: Name | None = None) -> None:
        self.used[name] = None
        if not _means(name, self.known.models):
            hint = catalog.unknown("model", name, self.known.models).rstrip("?.")
            pieces = name.split("-")
            glued = any("-".join(pieces[:n]) in self.known.models for n in range(1, len(pieces)))
            advice = "; a minus between two models has blanks around it" if glued else ""
            declared = f"""{advice}; others are declared under [models], as in "{name}" = "their label\""""
            raise self.file.fault(keys, hint + declared, inside and inside.at)

    def _place(self, name: str, keys: Keys, inside: Name | None = None) -> None:
        known = catalog.catalogue()
        every = {*known.datasets, *known.groups, *known.suites, *self.known.datasets}
        if name.endswith(".toml"):
            catalog.suite(name)
        elif name not in every:
            hint = catalog.unknown("dataset or suite", name, every).rstrip("?.")
            declared = f'others are declared in a line datasets = ["{name}"]'
            raise self.file.fault(keys, f"{hint}; {declared}", inside and inside.at)

    def _usual_place(self) -> str:
        return self.known.place or self.file.get(("on",), str, "")

    def _usual_measure(self, keys: Keys) -> str:
        """That of a table, else of the file."""
        stated = [at for at in ((*keys, "measure"), ("measure",)) if self.file.at(at) is not None]
        return self._measure(stated[0], self.file.get(stated[0], str, "")) if stated else MEASURE

    def _measure(self, keys: Keys, name: str, inside: Name | None = None) -> str:
        if name in self.measures:
            return self.measures[name]
        at = inside and inside.at
        if name.partition(".")[0] in SECTIONS:
            if name not in self.known.figures:
                raise self.file.fault(keys, catalog.unknown("figure", name, self.known.figures), at)
            self.measures[name] = name
            return name
        from harness.metrics.measures import measure_names

        try:
            names = measure_names(name)
        except UserError as error:
            raise self.file.fault(keys, str(error), at) from error
        if len(names) != 1:
            raise self.file.fault(keys, f"one measure is wanted, not {len(names)}", at)
        self.measures[name] = names[0]
        return names[0]


def _given(
    given: Sequence[str], names: Collection[str], path: Path, known: Collection[str]
) -> dict[str, tuple[str, ...]]:
    models: dict[str, tuple[str, ...]] = {}
    for text in given:
        pieces = text.split("=")
        splits = [("=".join(pieces[:n]), "=".join(pieces[n:])) for n in range(1, len(pieces))] or [(text, "")]
        name, label = next((pair for pair in splits if pair[0] in names), splits[0])
        if name not in names:
            raise UserError(f"{catalog.unknown(f'model in {path}', name, names)} Type --model NAME=LABEL.")
        if not _means(label, known):
            raise UserError(f"{catalog.unknown('model', label, known)} Type --model {name}=LABEL as results have it.")
        models[name] = (*models.get(name, ()), label)
    return models


def _means(label: str, known: Collection[str]) -> bool:
    """Whether it is a known model, or one with options, members or an index."""
    return label in known or re.split(r"[:(|]", label)[0] in known
