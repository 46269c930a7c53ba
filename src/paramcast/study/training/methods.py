"""The methods that a comparison knows: what each does to the base optimizer."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ... import averaging, predictors
from ...averaging import EMA, SWA, Average
from ...errors import ArgumentError, StudyError
from ...predictors import Predictor
from ..judging.table import AVERAGE, CONTROL, METHOD, PREDICTOR, RANDOM_JUMP, REFERENCE
from ..reading import shown
from .noise import GradientNoise, PerturbedStart

DERIVED = "derived"
# controls made from a predictor; their runs are named like "sign-flipped:plp(horizon=0.5)"
SIGN_FLIPPED = "sign-flipped"

MOST_CHARACTERS = 10_000  # of a list of methods
OWN_NAME = r"[^\s,():]+:[A-Za-z_][\w.]*"  # FILE.py:FUNCTION or package.module:Name


@dataclass(frozen=True)
class Kind:
    """A named method: its role, and the functions that make it.

    A *predictor* gets a verdict and has its own controls. An *average* of the weights is used for
    evaluation; it gets a verdict and is also a control of every predictor. A *control* is tuned
    like any other method, and a predictor must beat it; a *derived* control is made from each
    predictor and runs at its learning rate. A *reference* is a row without a verdict.
    """

    role: str
    predictor: Callable[..., Predictor] | None = None
    average: Callable[..., Average] | None = None
    noise: Callable[..., GradientNoise] | None = None
    start: Callable[..., PerturbedStart] | None = None
    momentum: bool = True  # the base keeps its own

    @property
    def make(self) -> Callable[..., Any] | None:
        """The function that takes the knobs."""
        return self.predictor or self.average or self.noise or self.start


def _ema(decay: float | None = None, share: float = 0.05) -> EMA:
    return EMA(share=share) if decay is None else EMA(decay)


def _swa(start_share: float = 0.75, every: int = 1) -> SWA:
    return SWA(start_share=start_share, every=every)


BASE = Kind(REFERENCE)
METHODS: dict[str, Kind] = {
    **{
        name: Kind(PREDICTOR, rule, momentum=not rule.replaces_momentum)
        for name, rule in predictors.COMPARED.items()
    },
    **{
        name: Kind(AVERAGE, average={"ema": _ema, "swa": _swa}.get(name, rule))
        for name, rule in averaging.COMPARED.items()
    },
    "nesterov": Kind(CONTROL),
    "no-momentum": Kind(CONTROL, momentum=False),
    "gradient-noise": Kind(CONTROL, noise=GradientNoise),
    SIGN_FLIPPED: Kind(DERIVED),
    "state-reset": Kind(CONTROL),
    "schedule-free": Kind(CONTROL),
    "demon": Kind(REFERENCE),
    "perturbed": Kind(REFERENCE, start=PerturbedStart),
}
"""What each does is said in the catalogue, under "method"."""
RESET, ORACLE = "reset", "oracle"
# A knob of all predictors: on a stream, start a new cycle at detected drift (RESET) or at every
# real drift, which only the study knows (ORACLE)
ON_DRIFT = "on_drift"


@dataclass(frozen=True)
class Method:
    """A method with its knobs, parsed from text such as "plp(horizon=0.5)"."""

    name: str
    knobs: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.knobs)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def kind(self) -> Kind:
        return METHODS[self.name]

    def predictor(self) -> Predictor:
        if self.kind.predictor is None:
            raise ArgumentError(f"{self.name} predicts nothing")
        return self.kind.predictor(**self.own)

    @property
    def on_drift(self) -> str:
        """The reaction to drift: "" (nothing), RESET or ORACLE."""
        return RESET if self.name == "state-reset" else dict(self.knobs).get(ON_DRIFT, "")

    @property
    def own(self) -> dict[str, Any]:
        """The knobs that `kind.make` takes."""
        return {name: value for name, value in self.knobs if name != ON_DRIFT}

    def check(self) -> None:
        """Try the knobs: make what they belong to once, which raises where a value does not fit."""
        if ON_DRIFT in dict(self.knobs) and self.on_drift not in (RESET, ORACLE):
            raise ArgumentError(
                f"{ON_DRIFT} must be '{RESET}' or '{ORACLE}', got {self.on_drift!r}"
            )
        if self.kind.make is not None:
            self.kind.make(**self.own)


@dataclass(frozen=True)
class OwnOptimizer(Method):
    """An optimizer of the user's, such as "my.py:muon" or "torch.optim:Muon" (`training.own`).

    Its knobs are not known before its code is loaded, which reading a list of methods never does.
    """

    @property
    def kind(self) -> Kind:
        return Kind(METHOD)


@dataclass(frozen=True)
class Candidate(Method):
    """A command that takes the place of the base's; it has no knobs."""

    @property
    def kind(self) -> Kind:
        return Kind(METHOD)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Read a list such as "plp, lookahead(every=5, alpha=0.8), demon".

    Raises:
        StudyError: an unknown method or knob, a value that is not a literal, a method named twice.
    """
    methods: list[Method] = []
    if len(text) > MOST_CHARACTERS:
        raise StudyError(
            f"methods are {len(text)} characters, more than {MOST_CHARACTERS}; name fewer"
        )
    rest = text.strip()
    while rest:
        # a name, its knobs in parentheses if any, then a comma or the end
        match = re.match(rf"({OWN_NAME}|[A-Za-z0-9-]+)\s*(?:\(([^()]*)\)\s*)?(?:,|$)\s*", rest)
        if match is None:
            raise StudyError(
                f"methods cannot be read at {shown(rest)}; "
                "write them like 'plp, plp(horizon=0.5), demon'"
            )
        method = _method(match.group(1), match.group(2) or "")
        if method in methods:
            raise StudyError(f"method {method.label} is named twice; name each once")
        methods.append(method)
        rest = rest[match.end() :]
    if not methods:
        raise StudyError(f"no method was named; choose from {', '.join(METHODS)} with --methods")
    return tuple(methods)


def _method(name: str, inside: str) -> Method:
    own = re.fullmatch(OWN_NAME, name) is not None
    if not own and name not in METHODS:
        raise StudyError(
            f"unknown method {shown(name)}; choose from {', '.join(METHODS)}, or FILE.py:FUNCTION "
            "(the base and the controls of a predictor always run)"
        )
    known = [] if own else knobs(name)
    values: list[tuple[str, Any]] = []
    # each knob once, its value a Python literal
    for part in filter(None, (piece.strip() for piece in inside.split(","))):
        knob, equals, value = part.partition("=")
        knob = knob.strip()
        if any(knob == name for name, _ in values):
            raise StudyError(f"the knob {knob} of {name} is given twice")
        if not equals or (not knob.isidentifier() if own else knob not in known):
            raise StudyError(
                f"method {name} has no knob {shown(knob)}; it has {', '.join(known) or 'none'}"
            )
        try:
            values.append((knob, ast.literal_eval(value.strip())))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise StudyError(
                f"the knob {knob} of {name} must be a number or a quoted word, "
                f"got {shown(value.strip())}"
            ) from None
    make = OwnOptimizer if own else Method
    method = make(name, tuple(sorted(values, key=lambda knob: knob[0])))
    try:
        # make it once, so that a value that does not fit is refused here
        method.check()
    except (ArgumentError, TypeError) as error:
        inside = ", ".join(f"{knob}={shown(value, 20)}" for knob, value in method.knobs)
        raise StudyError(f"method {name}({inside}): {error}") from None
    return method


def knobs(name: str) -> list[str]:
    """The names of a method's knobs."""
    kind = METHODS[name]
    own = list(inspect.signature(kind.make).parameters) if kind.make else []
    return [*own, ON_DRIFT] if kind.predictor else own


def reaction(method: str) -> str:
    """The reaction to drift of a run's method ("base" or as in `build`): "", RESET or ORACLE."""
    return "" if method == "base" else parse_methods(derived_from(method)[1])[0].on_drift


def derived_from(method: str) -> tuple[str, str]:
    """The control that a run's method is ("" if it is none of these), and what it is made from.

    >>> derived_from("random-jump:plp"), derived_from("my.py:muon")
    (('random-jump', 'plp'), ('', 'my.py:muon'))
    """
    kind, _, source = method.partition(":")
    return (kind, source) if kind in (RANDOM_JUMP, SIGN_FLIPPED) else ("", method)
