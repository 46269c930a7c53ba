"""Where a task comes from: a built-in name, a Python file, a table, a folder of images."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import TaskError
from ..reading import shown, tell, usable_path
from .builtin import BUILTIN, build, choose, find_data, is_builtin
from .data.files import sha256_of
from .frames import AS_IT_IS, ENDINGS, TableOptions
from .images import task_from_images
from .own_file import HERE, function_from_file, hash_of_code, takes_trial, task_of
from .scores import SCORES
from .task import Prepared, Task, prepare

if TYPE_CHECKING:
    from ..own.training import Subject

CODE = ("file", "trial")  # the kinds that are a function in a user's file
# for a training by command: its words, by arm; "base" alone if Trial.wrap makes the rest
Commands = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Source:
    """How any process can load a task: small, and safe to send."""

    kind: str  # "builtin", "file", "table" or "images"; "trial" or "command" for a training
    where: str  # name or absolute path; for a command, the folder that it starts in
    item: str = ""  # the function in a file, the target column of a table
    sha256: str = ""  # of the file's content
    # where a built-in task's data were found, the file that holds a folder's images as pixels; not
    # part of what a run is
    data: str = ""
    data_dir: str = ""  # the folder the user gave for them
    table: TableOptions = AS_IT_IS
    metric: str = ""  # judged instead of the task's own
    split: int = 0  # which random split, for a task that is split here
    test_examples: int | None = None  # for a training: how many the judged result counts
    tune_by: str = ""  # for a training: the result by which learning rates are chosen
    higher_is_better: bool | None = None  # of a training's metric
    commands: Commands = ()

    @property
    def argument(self) -> str:
        """The TASK argument that names it."""
        return f"{self.where}:{self.item}" if self.kind in CODE else self.where


def find(
    text: str,
    target: str | None = None,
    data_dir: str | None = None,
    table: TableOptions = AS_IT_IS,
) -> Source:
    """Find what a TASK argument names, and where its data are; a folder's images are decoded here.

    Args:
        text: a built-in name such as "fashion" or "cifar100/resnet8@10000", `file.py` or
            `file.py:function`, `table.csv`, or a folder.
        target, table: of a table, the column to predict and how to read it.
        data_dir: the folder that holds a built-in task's data.
    """
    name, _, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = usable_path(name, "TASK", home=True)
    if (target is not None or table != AS_IT_IS) and not is_table(text):
        given = {"target": target, **table._asdict()}
        name = next(name for name, value in given.items() if value not in (None, ()))
        raise TaskError(f"--{name} is for tables (a .csv file), the task is {shown(text)}")
    # a built-in name takes precedence over a file or folder of that name
    if is_builtin(text):
        choice = choose(text)
        found = find_data(choice, data_dir)
        return Source("builtin", choice.name, data=found, data_dir=data_dir or "")
    if data_dir is not None:
        raise TaskError(f"--data-dir is for built-in tasks, the task is {shown(text)}")
    if path.suffix == ".py":
        return Source("file", str(_file(path)), function or "task", sha256_of(_file(path)))
    if is_table(text):
        if target is None:
            raise TaskError(
                f"{text} is a table; say which column to predict with --target COLUMN "
                "(in a study: target)"
            )
        file = _file(path)
        return Source("table", str(file), target, sha256_of(file), table=table)
    if path.is_dir():
        from .image_folder import share_images  # Pillow, which only the driver needs

        folder = path.resolve()
        return Source("images", str(folder), data=str(share_images(folder)))
    raise TaskError(
        f"unknown task {shown(text)}; give one of {', '.join(BUILTIN)}, a file "
        "my_task.py:function, a table data.csv (or .tsv, .parquet, .csv.gz) with --target, or a "
        "folder with one folder of images per class"
    )


def is_table(text: str) -> bool:
    """Whether a TASK argument names a table's file."""
    return ENDINGS.search(text) is not None


def load(
    source: Source,
    device: str = "cpu",
    *,
    quiet: bool = False,
    found: Callable[..., Any] | None = None,
) -> Prepared:
    """Load and check a task, once per process.

    A task file is Python code and runs as such, with the user's rights; unless `quiet`, standard
    error says so. `found` is its function, if that was loaded already.
    """
    path = Path(source.where)
    if source.kind == "builtin":
        task = build(choose(source.where), source.data)
    elif source.kind == "file":
        function = found or _function(source, quiet=quiet)
        if takes_trial(function, path, source.item):
            raise TaskError(
                f"{path.name}:{source.item} trains by itself (it takes a trial); paramcast pilot "
                "can judge it, a study needs a function that returns a Task"
            )
        task = task_of(function, path, source.item)
    elif source.kind == "table":
        from .table import task_from_table  # pandas and scikit-learn, which take a second

        task = task_from_table(path, source.item, source.table, source.split, look=not quiet)
    else:
        task = task_from_images(path.name, Path(source.data), source.split)
    if source.metric and source.metric not in SCORES:
        raise TaskError(f"--metric must be one of {', '.join(SCORES)}, got {shown(source.metric)}")
    if source.metric and isinstance(task, Task):
        task = replace(task, metric=source.metric)
    return prepare(task, code_hash(source)).to(device)


def load_subject(source: Source) -> Subject:
    """Load and check what a pilot trains: a task, or a user's training."""
    from ..own.training import OwnTraining  # it reads sources itself

    if source.kind == "command":
        training = OwnTraining.of_commands(source)
        for _, words in source.commands:
            tell(f"running {shlex.join(words)} in {source.where}, with your rights")
        return training
    if source.kind == "file":
        function = _function(source)
        if takes_trial(function, Path(source.where), source.item):
            return OwnTraining.of_function(replace(source, kind="trial"), function)
        return load(source, found=function)
    return load(source)


def _function(source: Source, *, quiet: bool = False) -> Callable[..., Any]:
    """The function in a file, which is Python code and runs as such, with the user's rights."""
    if source.where not in HERE and not quiet:
        tell(f"running the code in {source.where}, with your rights")
    return function_from_file(Path(source.where), source.item, source.sha256)


def code_hash(source: Source) -> str:
    """A hash of the task file and of the modules beside it that it imported."""
    if source.kind not in CODE or source.where in HERE:
        return source.sha256
    return hash_of_code(source.where)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise TaskError(f"there is no file {shown(str(path))}; check the path")
    return path.resolve()
