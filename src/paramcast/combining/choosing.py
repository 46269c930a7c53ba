"""Evaluate every candidate, and choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from ..errors import ParamcastError, TaskError
from .combination import LAST, Combination, Row, state_of
from .evaluating import Metric, Own, metric_of, results_of, statistics_of
from .rules import Candidate, weights_of
from .series import Series

Watch = Callable[[int, int, str], None]
"""Told how many evaluations are done, of how many, and what the last one was."""


class _Maker:
    """Makes the rows of candidates."""

    def __init__(self, series: Series, batch_norm: Own | None) -> None:
        self.series, self._batch_norm = series, batch_norm
        self.last = (*[0.0] * (len(series) - 1), 1.0)

    @cached_property
    def _products(self) -> Tensor:
        return self.series.products()

    def row(self, candidate: Candidate) -> Row:
        """A candidate with its weights and, if they are estimated again, its statistics."""
        weights = weights_of(candidate.rule, len(self.series), lambda: self._products)
        return self.estimated(Row(candidate.name, weights))

    def estimated(self, row: Row) -> Row:
        """With statistics of batch norm of its own."""
        if self._batch_norm is None:
            return row
        state, names = state_of(self.series, row), self.series.statistics
        return replace(row, statistics=statistics_of(self._batch_norm, state, names))


def choose(
    series: Series,
    tried: Sequence[Candidate],
    notes: Sequence[str],
    evaluate: Own | None,
    batch_norm: Own | None,
    *,
    metric: str,
    higher: bool | None,
    even_if_worse: bool,
    watch: Watch,
) -> Combination:
    """Evaluate the last checkpoint and everything that is tried, and choose the best.

    Args:
        series: the checkpoints.
        tried: the candidates; exactly one without an evaluation.
        notes: what the user is told besides.
        evaluate, batch_norm: the user's functions.
        metric, higher: what decides, as far as the user says.
        even_if_worse: choose a candidate in any case.
        watch: told of progress.

    Raises:
        ParamcastError: the evaluation fails on the last checkpoint, or on every candidate.
    """
    maker = _Maker(series, batch_norm)
    base = Row(LAST, maker.last)
    if evaluate is None:
        (candidate,) = tried
        row = maker.row(candidate)
        return Combination(series, [base, row], row, notes=notes)
    # the last checkpoint as it is, which says what is measured
    total = len(tried) + 2 + (batch_norm is not None)
    watch(0, total, LAST)
    results = results_of(evaluate, state_of(series, base))
    decides = metric_of(evaluate, results, metric, higher)
    rows = [replace(base, results=results, value=results[decides.name])]

    def evaluated(name: str, make: Callable[[], Row]) -> Row:
        watch(len(rows), total, name)
        try:
            row = make()
            found = results_of(evaluate, state_of(series, row))
            if decides.name not in found:
                raise TaskError(f"{evaluate.name} returned no {decides.name}")
        except ParamcastError as error:  # the others go on
            return Row(name, (), reason=f"failed: {' '.join(str(error).split())}")
        return replace(row, results=found, value=found[decides.name])

    if batch_norm is not None:  # or its gain would be taken for the candidates'
        again = f"{LAST}, batch norm estimated again"
        rows.append(evaluated(again, lambda: maker.estimated(Row(again, maker.last))))
    for each in tried:
        rows.append(evaluated(each.name, lambda each=each: maker.row(each)))  # type: ignore[misc]
    if all(row.value is None for row in rows[1:]):
        raise TaskError(f"every combination failed; {rows[-1].name} {rows[-1].reason}")
    # the last checkpoint a second time: does the same model get the same value?
    repeated = results_of(evaluate, state_of(series, base)).get(decides.name)
    watch(total, total, LAST)
    if repeated != rows[0].value and repeated == repeated:
        notes = [*notes, _unsteady(rows[0].value, repeated, decides)]
    best = rows[1] if even_if_worse else rows[0]
    for row in rows[1:]:
        if decides.better(row.value, best.value):
            best = row
    return Combination(series, rows, best, decides, notes=notes)


def _unsteady(first: float | None, again: float | None, metric: Metric) -> str:
    return (
        f"the evaluation gave the last checkpoint {metric.name} {first:.6g} at first and "
        f"{again:.6g} in the end: differences of this size mean nothing, so fix its data and seeds"
    )


def tested(found: Combination, test: Own) -> Combination:
    """With the values of the last checkpoint and of the chosen one on the test function."""
    if found.metric is None or found.chosen is found.base:
        return found
    values = []
    try:
        for row in (found.base, found.chosen):
            results = results_of(test, state_of(found.series, row))
            if found.metric.name not in results and len(results) > 1:
                raise TaskError(f"{test.name} returned no {found.metric.name}")
            values.append(results.get(found.metric.name, next(iter(results.values()))))
    except ParamcastError as error:
        return replace(found, notes=[*found.notes, f"no test value: {error}"])
    return replace(found, test=(values[0], values[1]))
