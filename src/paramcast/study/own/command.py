"""A training that is a command: its words, and one run of it in a worker process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import StudyError
from ...trials import ENVIRONMENT, JOURNAL
from ..reading import is_text, read_text, shown
from ..spec import RunSpec, hash_of
from ..tasks.data.files import sha256_of
from ..tasks.own_file import hash_of_code
from ..tasks.source import Source
from .record import LOG, Failure, Misuse, Record
from .training import OwnTraining

PLACEHOLDERS = ("lr", "seed", "share", "result", "folder", "device")
"""What braces in a command may name; each is replaced within its word."""
SUPERVISOR = Path(__file__).with_name("supervisor.py")
MOST_RESULT = 256 * 2**10
"""The most bytes of a result, however it arrives."""
MOST_JOURNAL = 16 * 2**20
"""The most bytes that the events of one run may take."""
MOST_HASHED = 4 * 2**20
"""Bytes up to which a file that a command names is part of the command's identity."""
LAST_LINES = 20
"""Lines at the end of an output in which a result is looked for."""
LOOK = 0.5
"""Seconds between two reads of what the training reports."""


# --- the words of a command -----------------------------------------------------------------------


def of_command(words: Sequence[str], searched: Sequence[str] = ()) -> Source:
    """The source of a training that is one command; `Trial.wrap` applies the methods.

    Args:
        words: the command's.
        searched: names that --search tries; they are placeholders too.
    """
    words = check_words(words, "the command", searched)
    return Source("command", str(Path.cwd()), commands=(("base", words),))


def of_candidates(
    base: str | None, candidates: Sequence[str], searched: Sequence[str] = ()
) -> Source:
    """The source of a comparison of commands.

    Args:
        base: the command to compare with.
        candidates: the others, as NAME=COMMAND.
        searched: as for `of_command`.

    Raises:
        StudyError: a command or a name is missing or invalid.
    """
    if base is None:
        raise StudyError("--candidate needs the command to compare with: --base COMMAND")
    commands = {"base": read_command(base, "--base", searched)}
    for text in candidates:
        name, equals, command = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}", name):
            raise StudyError(
                f"--candidate must be NAME=COMMAND, a name of letters and digits, got {shown(text)}"
            )
        if name in commands:
            raise StudyError(f"there are two commands named {name}; give each a name of its own")
        commands[name] = read_command(command, f"--candidate {name}", searched)
    for arm, words in commands.items():
        if not takes(words, "seed"):
            raise StudyError(
                f"the command of {arm} has no {{seed}}, so all its runs would be the same; write "
                "it where the command takes its seed, such as --seed {seed}"
            )
    # one tuned arm beside one at a fixed rate would not be a comparison of methods
    with_lr = [arm for arm, words in commands.items() if takes(words, "lr")]
    if 0 < len(with_lr) < len(commands):
        raise StudyError(
            f"{{lr}} is in the command of {with_lr[0]} but not in all others; write it in all of "
            "them, to be tuned, or write a rate into each"
        )
    return Source("command", str(Path.cwd()), commands=tuple(commands.items()))


def read_command(text: str, what: str, searched: Sequence[str] = ()) -> tuple[str, ...]:
    """Split a command into words as a shell would; no other feature of a shell works.

    Raises:
        StudyError: it cannot be split, or is empty.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise StudyError(f"{what} {shown(text)} cannot be read as a command ({error})") from None
    return check_words(words, what, searched)


def check_words(words: Sequence[str], what: str, searched: Sequence[str] = ()) -> tuple[str, ...]:
    """Check the words of a command, and the placeholders in them.

    Raises:
        StudyError: there are no words, or one names an unknown placeholder.
    """
    if not words or not words[0]:
        raise StudyError(f"{what} is empty; write the command that trains once")
    if not all(map(is_text, words)):
        raise StudyError(f"{what} holds characters that no command can have")
    known = (*PLACEHOLDERS, *searched)
    if taken := [name for name in searched if name in PLACEHOLDERS]:
        raise StudyError(f"--search {taken[0]}: {{{taken[0]}}} has a meaning already; rename it")
    # a misspelt placeholder would reach the program as text
    for word in words:
        for name in placeholders(word):
            if name not in known:
                raise StudyError(
                    f"{what} has the unknown placeholder {{{shown(name)[1:-1]}}}; there are "
                    f"{', '.join('{' + each + '}' for each in known)}, and {{{{ for a brace"
                )
    return tuple(words)


def placeholders(word: str) -> Iterator[str]:
    """The names in braces; a conversion or format stays part of the name."""
    try:
        parts = list(string.Formatter().parse(word))
    except ValueError:  # a single brace
        yield word
        return
    for _, name, form, conversion in parts:
        if name is not None:
            yield name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")


def takes(words: Sequence[str], name: str) -> bool:
    """Whether a command has a placeholder of that name."""
    return any(name in placeholders(word) for word in words)


def hash_of_files(source: Source) -> str:
    """A hash of the files that the commands name, and of the modules beside a script."""
    found: dict[str, str] = {}
    for _, words in source.commands:
        for word in words:
            with contextlib.suppress(OSError, ValueError):
                path = Path(source.where, word)
                if path.is_file() and path.stat().st_size <= MOST_HASHED:
                    found[word] = hash_of_code(path) if path.suffix == ".py" else sha256_of(path)
    return hash_of(found)


# --- one run --------------------------------------------------------------------------------------


def run_command(
    training: OwnTraining, spec: RunSpec, folder: Path, live: str | None
) -> dict[str, Any]:
    """Run the command once; the outcome is like that of `training.loop.run`.

    Args:
        training, spec: the commands and the run.
        folder: the run's; its output.log receives what the command prints.
        live: the folder for `paramcast watch`.

    Raises:
        Misuse: the command does not do its part.
        Failure: it failed, or was killed.
    """
    if os.name != "posix":
        raise Misuse("commands are run on Linux and macOS; judge a function of one trial instead")
    from ..engines.devices import visible_device  # the engines import what they run

    commands = dict(training.source.commands)
    template = commands.get(spec.method, commands["base"])
    # remove what an earlier attempt left
    result, journal = folder / "result.json", folder / JOURNAL
    for path in (result, journal):
        path.unlink(missing_ok=True)
    described = folder / "trial.json"
    described.write_text(json.dumps(training.trial(spec, folder)), "utf-8")
    device, shown_devices = visible_device(spec.device)
    values = {
        "lr": repr(spec.lr), "seed": str(training.trial(spec, folder)["seed"]),
        "share": repr(spec.share), "result": str(result), "folder": str(folder), "device": device,
    }  # fmt: skip
    values |= {name: str(value) for name, value in spec.settings}
    words = [word.format(**values) for word in template]
    environment = {**os.environ, **shown_devices, ENVIRONMENT: str(described)}

    # run it; its output goes into the log, its events to the watcher
    record = Record(spec, training.declared, live)
    for name in ("lr", "seed", "share"):
        if takes(template, name):
            record.take({"used": name})
    if any(takes(template, name) for name, _ in spec.settings):
        record.take({"used": "settings"})
    events = Events(journal, record)
    start = time.perf_counter()
    ended = _run(words, training.source.where, environment, folder / LOG, events.read)
    seconds = time.perf_counter() - start
    events.read()
    last = _last_lines(folder / LOG)

    # how it ended
    if record.divergence is None and record.misuse is None:
        _check_end(ended, last, folder)
    results = None
    if record.divergence is None:
        results = record.results
        if results is None:
            results = _from_file(result) or _from_lines(last, training.declared.metric)
        if results is None and record.misuse is None:
            raise Misuse(
                "the command ended without a result; call trial.done(NAME=value) in it, print a "
                "JSON object as its last line, or write one to {result}; what it printed is in "
                f"{folder / LOG}"
            )
    memory = ended.get("memory", 0) * (1024 if sys.platform == "linux" else 1)
    return record.outcome(results, seconds, memory, wraps=training.wraps)


def _run(
    words: list[str], where: str, environment: dict[str, str], log: Path, look: Callable[[], None]
) -> dict[str, Any]:
    """Run a command, whose output goes into the log, and return how it ended."""
    control, hold = os.pipe()  # closes, and so tells the supervisor, if we die
    heard, status = os.pipe()
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the user's command
                # -I -S: neither the user's environment nor site-packages change the supervisor
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(control), str(status), *words],
                cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, pass_fds=(control, status), start_new_session=True,
            )  # fmt: skip
        # our copy of its end, or reading what it tells would never end
        os.close(status)
        status = -1
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
            look()
        told = os.read(heard, 65536)
        return json.loads(told) if told else {"killed": True}
    finally:
        for end in (control, hold, heard, status):
            if end >= 0:
                os.close(end)


def _check_end(ended: dict[str, Any], last: list[str], folder: Path) -> None:
    """Raise Failure (the run is tried again) or Misuse, unless the command ended well."""
    if "error" in ended:
        raise Misuse(f"the command {ended['error']}")
    more = f"; what it printed is in {folder / LOG}"
    if "killed" in ended:  # its supervisor, which would have told how it ended
        raise Failure(f"the command was killed from outside{more}")
    code = ended["code"]
    if code == 0:
        return
    if any("EOFError: EOF when reading a line" in line for line in last):
        raise Misuse(f"the command asked for input, and nobody answers in a pilot{more}")
    # nothing but the system, or a person, sends this one
    if code == -signal.SIGKILL:
        from ..engines.local import KILLED

        raise Failure(f"{KILLED}{more}")
    said = f": {shown(last[-1].strip(), 200)[1:-1]}" if last else ""
    how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with code {code}"
    raise Failure(f"the command {how}{said}{more}")


def _signal(number: int) -> str:
    """A signal's name; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Events:
    """Reads the journal of a run as it grows."""

    def __init__(self, path: Path, record: Record) -> None:
        self._path, self._record, self._read, self._rest = path, record, 0, b""

    def read(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read(MOST_JOURNAL - self._read)
            self._read += len(data)
            # the last line may be half written
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                event = _object(line)
                if event is not None:
                    self._record.take(event)


def _from_file(path: Path) -> dict[str, Any] | None:
    try:
        return _object(read_text(path, MOST_RESULT))
    except (OSError, ValueError):
        return None


def _from_lines(lines: Sequence[str], metric: str) -> dict[str, Any] | None:
    """The last object that has what is judged; a logger may write objects of its own."""
    found = [*filter(None, map(_object, reversed(lines)))]
    return next((each for each in found if metric in each), found[0] if found else None)


def _last_lines(log: Path) -> list[str]:
    """The end of an output: a result, perhaps with warnings behind it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - MOST_RESULT))
        return file.read().decode("utf-8", "replace").rstrip().splitlines()[-LAST_LINES:]


def _object(text: str | bytes) -> dict[str, Any] | None:
    """A JSON object, in which NaN and infinity may stand for numbers; None if it is not one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
