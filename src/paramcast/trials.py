"""A training of your own as one run of a comparison: `Trial`, and `paramcast.trial()`.

Nothing here imports torch or JAX, so a script that uses one does not wait for the other.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from .errors import ArgumentError, ParamcastError

# The environment variable with the path of the file that describes a run to its process.
ENVIRONMENT = "PARAMCAST_TRIAL"
# The file in a run's folder to which that process writes one event per line.
JOURNAL = "trial.jsonl"
# Points of a curve; a longer one drops every second point, again and again, until it fits.
MOST_POINTS = 256
Optimizer = TypeVar("Optimizer")
Event = dict[str, Any]


class Diverged(Exception):  # noqa: N818 - a result, not a mistake
    """A reported loss is not finite: the run ends here, and counts as diverged."""


class Trial:
    """One run of a comparison, as the training sees it.

    A pilot hands it to your function, and `paramcast.trial()` returns it in your script. Outside a
    pilot it is neutral: it changes nothing and writes nothing.

    Args:
        seed, lr, share: see the attributes. Without `lr`, reading it is an error.
        phase, method, device, folder, settings: see the attributes.
        noise_seed: seed of the method's own draws.
        wraps: whether `wrap` applies the method; otherwise the training itself does.
        tell: receives what the training does; None outside a pilot.

    Attributes:
        seed: seed everything random with it; runs are paired by seed.
        lr: the learning rate to train at.
        share: the part of your usual steps to train for; `steps` works it out.
        phase: "tune" or "final".
        method: "base", or the name of the method that `wrap` applies.
        device: "cpu", "cuda" or "cuda:N".
        folder: this run's own folder, for your checkpoints; outside a pilot, the current folder.
        settings: the values that --search tries besides the learning rate, by name; empty without
            it, so read them with `trial.settings.get("beta", 0.9)`.

    Example:
        >>> trial = Trial(lr=0.1)
        >>> trial.steps(500), trial.wrap("an optimizer")
        (500, 'an optimizer')
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        lr: float | None = None,
        share: float = 1.0,
        phase: str = "final",
        method: str = "base",
        device: str = "cpu",
        folder: Path | str = ".",
        settings: Mapping[str, Any] | None = None,
        noise_seed: int = 0,
        wraps: bool = True,
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        self.phase, self.method, self.device, self.folder = phase, method, device, Path(folder)
        self._settings = dict(settings or {})
        self._seed, self._lr, self._share = seed, lr, share
        self._noise_seed, self._wraps, self._tell = noise_seed, wraps, tell
        self._used: set[str] = set()
        self._total: int | None = None
        self._optimizers: list[Any] = []
        self._points, self._every, self._done = 0, 1, False
        self._begun = time.perf_counter()

    @property
    def seed(self) -> int:
        self._use("seed")
        return self._seed

    @property
    def lr(self) -> float:
        self._use("lr")
        if self._lr is None:
            raise ArgumentError(
                "trial.lr is not known outside a pilot; give one to use there: "
                "paramcast.trial(lr=0.1)"
            )
        return self._lr

    @property
    def settings(self) -> dict[str, Any]:
        self._use("settings")
        return dict(self._settings)

    @property
    def share(self) -> float:
        self._use("share")
        return self._share

    def steps(self, total: int) -> int:
        """How many of your usual optimizer steps to train for: all, or 0.8 if speed is judged.

        Call it before `wrap`, because averages need the number of steps. If you count epochs,
        multiply them by `share` instead.

        Raises:
            ArgumentError: total is not a whole number from 1.
        """
        if isinstance(total, bool) or not isinstance(total, int) or total < 1:
            self._refuse(f"trial.steps needs your usual number of steps, 1 or more, got {total!r}")
        steps = max(1, round(self.share * total))
        self._total = steps
        self._note({"steps": steps})
        return steps

    def wrap(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer of this run: yours unchanged for the base, wrapped for a method.

        Args:
            optimizer: a torch optimizer, or an optax gradient transformation.

        Raises:
            ArgumentError: the method does not fit this optimizer.
        """
        self._use("wrap")
        self._note({"optimizer": type(optimizer).__name__})
        # the base, and a training that applies the method itself, keep their optimizer
        if self.method == "base" or not self._wraps:
            return optimizer
        from .study.own.wrapping import wrap

        try:
            wrapped: Optimizer = wrap(optimizer, self.method, self._total, self._noise_seed)
        except ParamcastError as error:
            self._refuse(f"method {self.method} does not fit this training: {error}")
        self._optimizers.append(wrapped)
        return wrapped

    def report(self, step: int, **values: Any) -> None:
        """Report progress: a point of the training curve, which `paramcast watch` shows.

        Args:
            step: the number of steps taken.
            values: numbers by name, such as train_loss and validation_loss.

        Raises:
            Diverged: a loss is not finite; the run ends here.
            ArgumentError: a value is not one number.
        """
        if self._tell is None:
            return
        found = {name: self.number(f"trial.report: {name}", v) for name, v in values.items()}
        bad = [name for name, value in found.items() if "loss" in name and not math.isfinite(value)]
        # a point of the curve; a long one keeps every second, fourth, ... point
        self._points += 1
        if self._points % self._every == 0 or bad:
            seconds = time.perf_counter() - self._begun
            self._note({"point": {"step": int(step), "seconds": seconds, **found}})
        if self._points >= MOST_POINTS * self._every:
            self._every *= 2
        # the curve shows where it ended
        if bad:
            self._note({"diverged": {"how": "step", "step": int(step)}})
            raise Diverged(f"{bad[0]} is {found[bad[0]]} at step {step}")

    @contextmanager
    def eval_weights(self, model: Any = None, *, update_bn: Any = None) -> Iterator[None]:
        """Evaluate with the averaged weights if the method has them, else with the live ones.

        Args:
            model, update_bn: as for `Forecast.eval_weights`.
        """
        ready = [each for each in self._optimizers if getattr(each, "has_average", False)]
        with ExitStack() as stack:
            # batch norm belongs to the model with all averages in it
            for i, each in enumerate(ready):
                data = update_bn if i == len(ready) - 1 else None
                stack.enter_context(each.eval_weights(model, update_bn=data))
            yield

    def done(self, **results: Any) -> None:
        """Hand in the results of this run, numbers by name; no effect outside a pilot.

        Raises:
            ArgumentError: a result is not one number, or there is none.
        """
        if self._tell is None:
            return
        if not results:
            self._refuse("trial.done needs the results by name: trial.done(accuracy=accuracy)")
        found = {name: self.number(f"trial.done: {name}", v) for name, v in results.items()}
        self.finish()
        self._note({"done": found})

    def number(self, name: str, value: Any) -> float:
        """A value as one number, even if it is a tensor or an array that holds only one."""
        # a tensor or an array of one number; others keep their shape for the message
        item = getattr(value, "item", None)
        if callable(item):
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                value = item()
        if isinstance(value, bool) or not isinstance(value, Real):
            shape = getattr(value, "shape", None)
            of = "" if shape is None else f" of shape {tuple(shape)}"
            kind = type(value).__name__
            article = "an" if kind[:1].lower() in "aeiou" else "a"
            self._refuse(
                f"{name} must be one number, got {article} {kind}{of}; reduce it first, "
                "such as by float(value.mean())"
            )
        return float(value)

    def finish(self) -> None:
        """Report, once, how many steps each wrapped torch optimizer took."""
        if not self._done:
            self._done = True
            for optimizer in self._optimizers:
                from .study.own.wrapping import steps_of

                self._note({"stepped": steps_of(optimizer)})

    # --- what a pilot hears ---------------------------------------------------------------------

    def _use(self, what: str) -> None:
        if what not in self._used:
            self._used.add(what)
            self._note({"used": what})

    def _note(self, event: Event) -> None:
        if self._tell is not None:
            self._tell(event)

    def _refuse(self, text: str) -> Any:
        self._note({"misuse": text})
        raise ArgumentError(text)


def trial(
    *,
    lr: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> Trial:
    """The run that this process trains for a pilot; outside a pilot, a neutral one.

    With several processes (`torchrun`), each gets the run and only rank 0 reports.

    Args:
        lr, seed, device: the attributes of the neutral run.
        settings: the values of `Trial.settings` for names that --search does not try.

    Raises:
        ArgumentError: the file that the pilot wrote cannot be read.

    Example:
        >>> import paramcast
        >>> trial = paramcast.trial(lr=0.1)
        >>> trial.lr, trial.share, trial.method
        (0.1, 1.0, 'base')
    """
    path = os.environ.get(ENVIRONMENT)
    # one run per process, or the one that `current` sets
    if _current:
        return _current[-1]
    if path is None:
        return Trial(lr=lr, seed=seed, device=device, settings=settings)
    try:
        described = json.loads(Path(path).read_text("utf-8"))
        # what the pilot does not try has the value that the script gives
        described["settings"] = {**(settings or {}), **described["settings"]}
        found = Trial(**described, tell=_Journal(Path(described["folder"]) / JOURNAL))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArgumentError(
            f"{ENVIRONMENT} names {path}, which does not describe a run ({error}); "
            "unset it to train outside a pilot"
        ) from None
    _current.append(found)
    atexit.register(found.finish)
    return found


@contextmanager
def current(run: Trial) -> Iterator[None]:
    """Let `paramcast.trial()` return this trial within the block."""
    _current.append(run)
    try:
        yield
    finally:
        _current.remove(run)


_current: list[Trial] = []


class _Journal:
    """Writes rank 0's events, each immediately: the process may be killed at any moment."""

    def __init__(self, path: Path) -> None:
        self._file = None
        if os.environ.get("RANK", "0") == "0":
            self._file = path.open("a", buffering=1, encoding="utf-8")  # line by line

    def __call__(self, event: Event) -> None:
        if self._file is not None:
            self._file.write(json.dumps(event) + "\n")
