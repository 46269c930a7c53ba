"""The user's functions: what a combination is worth; every candidate evaluated, and the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._checks import scalar
from .._directions import known_direction
from ..errors import ArgumentError, CheckpointError, ParamcastError, TaskError
from .combination import LAST, Combination, Metric, Row, state_of
from .rules import Candidate, weights_of
from .series import Series

Function = Callable[[dict[str, Any]], Any]
# Goes through what is evaluated and shows how far it is, as `tqdm.tqdm` does.
Watch = Callable[[Sequence[Candidate]], Iterable[Candidate]]


@dataclass(frozen=True)
class Own:
    """A function of the user's, from a file of his or not; what it raises becomes a `TaskError`."""

    function: Function
    name: str
    path: Path

    def __call__(self, state: dict[str, Any]) -> Any:
        from ..study.tasks.own_file import line_of

        try:
            return self.function(state)
        except (Exception, SystemExit) as error:
            raise TaskError(
                f"{self.name} failed with {type(error).__name__}: {str(error)[:200]}"
                f"{line_of(error, self.path)}"
            ) from error

    def results(self, state: dict[str, Any]) -> dict[str, float]:
        """What it says of a state dict: numbers by name; one number is called after it."""
        returned = self(state)
        values = returned if isinstance(returned, Mapping) else {self.name: returned}
        try:
            if not values:
                raise ArgumentError("it returned nothing")
            return {str(name): scalar(str(name), _item(value)) for name, value in values.items()}
        except ArgumentError as error:
            raise TaskError(
                f"{self.name} must return a number, or numbers by name: {error}"
            ) from None

    def statistics(self, state: dict[str, Any], names: Sequence[str]) -> dict[str, Tensor]:
        """The running statistics of batch norm that it estimates for a state dict, by `names`."""
        before = {name: (state[name].shape, state[name].dtype) for name in names}
        returned = self(state)
        if not isinstance(returned, Mapping):
            raise TaskError(
                f"{self.name} must return the state dict with new statistics of batch norm, got "
                f"{type(returned).__name__}; end it with: return model.state_dict()"
            )
        found = {}
        for name, (shape, dtype) in before.items():
            value = returned.get(name)
            if not isinstance(value, Tensor) or value.shape != shape:
                raise TaskError(
                    f"{self.name} returned no {name} of shape {tuple(shape)}; return the state "
                    "dict of the same model"
                )
            found[name] = value.detach().to("cpu", dtype, copy=True)
            if not bool(torch.isfinite(found[name]).all()):
                raise CheckpointError(f"{self.name} returned a {name} that is not finite")
        return found


def _item(value: Any) -> Any:
    """An array of one number as that number."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "size", None) == 1 else value


def own(
    what: str, given: str | Function, modules: dict[Path, ModuleType], tell: Callable[[str], None]
) -> Own:
    """The argument `what`: a function, or "file.py:function", whose file runs once."""
    if callable(given):
        code = getattr(given, "__code__", None)
        name = getattr(given, "__name__", type(given).__name__)
        return Own(given, name, Path(code.co_filename if code else ""))
    from ..study.tasks.data.files import sha256_of
    from ..study.tasks.own_file import function_in, module_from_file

    file, _, item = str(given).rpartition(":") if ".py:" in str(given) else (given, "", "")
    path = Path(file)
    if path.suffix != ".py" or not item:
        raise TaskError(f"{what} must be FILE.py:FUNCTION, got {str(given)[:80]!r}")
    if not path.is_file():
        raise TaskError(f"{what}: there is no file {path}; check the path")
    path = path.resolve()
    # a file with several functions runs once
    if path not in modules:
        tell(f"running the code in {path}, with your rights")
        modules[path] = module_from_file(path, sha256_of(path))
    return Own(function_in(modules[path], path, item), item, path)


def metric_of(name: str, results: Mapping[str, float], metric: str, higher: bool | None) -> Metric:
    """Which result of the function `name` decides, and in which direction."""
    chosen = metric or (next(iter(results)) if len(results) == 1 else "")
    if chosen not in results:
        which = f"it has no {chosen!r}" if chosen else "say which decides: metric (--metric NAME)"
        raise TaskError(f"{name} returned {', '.join(results)}; {which}")
    higher = known_direction(chosen) if higher is None else higher
    if not isinstance(higher, bool):
        raise TaskError(
            f"is a higher {chosen} better? Say higher_is_better=True or False "
            '(--higher-is-better or --lower-is-better), or return {"accuracy": ...}'
        )
    return Metric(chosen, higher)


def choose(
    series: Series,
    tried: Sequence[Candidate],
    notes: Sequence[str],
    evaluate: Own | None,
    batch_norm: Own | None,
    *,
    metric: str,
    higher: bool | None,
    watch: Watch,
) -> Combination:
    """Evaluate the last checkpoint and everything that is tried, and choose the best.

    Without an evaluation exactly one is tried. One that fails leaves the others going on; the last
    checkpoint must not fail.
    """
    last = (*[0.0] * (len(series) - 1), 1.0)
    products = cache(series.products)

    def estimated(row: Row) -> Row:
        """With statistics of batch norm of its own, if they are estimated."""
        if batch_norm is None:
            return row
        found = batch_norm.statistics(state_of(series, row), series.statistics)
        return replace(row, statistics=found)

    def row_of(candidate: Candidate) -> Row:
        weights = weights_of(candidate.rule, len(series), products)
        return estimated(Row(candidate.name, weights))

    base = Row(LAST, last)
    if evaluate is None:
        (candidate,) = tried
        row = row_of(candidate)
        return Combination(series, [base, row], row, notes=notes)

    # the last checkpoint as it is, which says what is measured
    results = evaluate.results(state_of(series, base))
    decides = metric_of(evaluate.name, results, metric, higher)
    rows = [replace(base, results=results, value=results[decides.name])]

    def evaluated(name: str, make: Callable[[], Row]) -> Row:
        try:
            row = make()
            found = evaluate.results(state_of(series, row))
            if decides.name not in found:
                raise TaskError(f"{evaluate.name} returned no {decides.name}")
        except ParamcastError as error:  # the others go on
            return Row(name, (), reason=f"failed: {' '.join(str(error).split())}")
        return replace(row, results=found, value=found[decides.name])

    if batch_norm is not None:  # or its gain would be taken for the candidates'
        again = f"{LAST}, batch norm estimated again"
        rows.append(evaluated(again, lambda: estimated(Row(again, last))))
    for each in watch(tried):
        rows.append(evaluated(each.name, lambda each=each: row_of(each)))  # type: ignore[misc]
    if all(row.value is None for row in rows[1:]):
        raise TaskError(f"every combination failed; {rows[-1].name} {rows[-1].reason}")

    # the last checkpoint a second time: does the same model get the same value?
    repeated = evaluate.results(state_of(series, base)).get(decides.name)
    if repeated != rows[0].value and repeated == repeated:
        unsteady = (
            f"the evaluation gave the last checkpoint {decides.name} {rows[0].value:.6g} at first "
            f"and {repeated:.6g} in the end: differences of this size mean nothing, so fix its "
            "data and seeds"
        )
        notes = [*notes, unsteady]
    # the best: of equal ones the first
    best = rows[0]
    for row in rows[1:]:
        if decides.better(row.value, best.value):
            best = row
    return Combination(series, rows, best, decides, notes=notes)


def tested(found: Combination, test: Own) -> Combination:
    """With the values of the last checkpoint and of the chosen one on the test function."""
    if found.metric is None or found.chosen is found.base:
        return found
    values, name = [], found.metric.name
    try:
        for row in (found.base, found.chosen):
            results = test.results(state_of(found.series, row))
            if name not in results and len(results) > 1:
                raise TaskError(f"{test.name} returned no {name}")
            # its only result may have another name
            name = name if name in results else next(iter(results))
            values.append(results[name])
    except ParamcastError as error:
        return replace(found, notes=[*found.notes, f"no test value: {error}"])
    return replace(found, test=(values[0], values[1]), test_name=name)
