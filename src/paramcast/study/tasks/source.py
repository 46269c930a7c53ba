"""Where a task comes from: a built-in name, a Python file, a table, a folder of images."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf

from ...errors import TaskError
from ..reading import shown, tell, usable_path
from .builtin import BUILTIN, build, choose, find_data, is_builtin
from .networks import mlp, small_cnn
from .task import Prepared, Task, prepare

PACKAGE = Path(__file__).resolve().parents[2]
IMAGE_SIZE = 32
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MOST_PIXELS = 100_000_000
"""Of an image; in memory it takes three bytes for each."""
FEWEST_PER_CLASS = 5
MOST_CATEGORIES = 50


@dataclass(frozen=True)
class Source:
    """How any process can load a task: small, and safe to send."""

    kind: str  # "builtin", "file", "table" or "images"
    where: str  # name or absolute path
    item: str = ""  # the function in a file, the target column of a table
    sha256: str = ""  # of the file's content
    data: str = ""  # where a built-in task's data were found; no part of what a run is
    data_dir: str = ""  # the folder the user gave for them

    @property
    def label(self) -> str:
        return self.where if self.kind == "builtin" else Path(self.where).stem


def find(text: str, target: str | None = None, data_dir: str | None = None) -> Source:
    """Tell what a TASK argument names, and where its data lie.

    Args:
        text: a built-in name such as "fashion" or "cifar100/resnet8@10000", `file.py` or
            `file.py:function`, `table.csv`, or a folder.
        target: the column to predict, for a table.
        data_dir: the folder that holds a built-in task's data.

    Raises:
        TaskError: it names nothing, `target` or `data_dir` do not fit, or a built-in task's data
            are nowhere.
    """
    name, _, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = usable_path(name, "TASK", home=True)
    if target is not None and path.suffix.lower() != ".csv":
        raise TaskError(f"--target is for tables (a .csv file), the task is {shown(text)}")
    if is_builtin(text):
        choice = choose(text)
        found = find_data(choice, data_dir)
        return Source("builtin", choice.name, data=found, data_dir=data_dir or "")
    if data_dir is not None:
        raise TaskError(f"--data-dir is for built-in tasks, the task is {shown(text)}")
    if path.suffix == ".py":
        return Source("file", str(_file(path)), function or "task", _sha256(path))
    if path.suffix.lower() == ".csv":
        if target is None:
            raise TaskError(f"{text} is a table; say which column to predict with --target COLUMN")
        return Source("table", str(_file(path)), target, _sha256(path))
    if path.is_dir():
        return Source("images", str(path.resolve()))
    raise TaskError(
        f"unknown task {shown(text)}; give one of {', '.join(BUILTIN)}, a file "
        "my_task.py:function, a table data.csv with --target, or a folder with one folder of "
        "images per class"
    )


def load(source: Source, device: str = "cpu", *, quiet: bool = False) -> Prepared:
    """Load and check a task, once per process.

    A task file is Python code and runs as such, with the user's rights; unless `quiet`, standard
    error says so.

    Raises:
        TaskError: the file, the data or the model cannot be used.
    """
    if source.kind == "file" and not quiet:
        tell(f"running the code in {source.where}, with your rights")
    make = {"builtin": _builtin, "file": _from_file, "table": _table, "images": _images}
    task = make[source.kind](source)
    return prepare(task, _code_hash(source)).to(device)


def _builtin(source: Source) -> Task:
    return build(choose(source.where), source.data)


def _from_file(source: Source) -> Any:
    path = Path(source.where)
    if _sha256(path) != source.sha256:
        raise TaskError(f"{path.name} was changed while it was in use; start the command again")
    name = f"paramcast_task_{source.sha256[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    if spec is None or spec.loader is None:
        raise TaskError(f"{path.name} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as `python file.py` does
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise TaskError(
            f"{path.name} cannot be imported: {type(error).__name__}: {error}{_line(error, path)}"
        ) from error
    function = getattr(module, source.item, None)
    if not callable(function):
        names = [
            n for n, v in vars(module).items() if callable(v) and v.__module__ == module.__name__
        ]
        raise TaskError(
            f"{path.name} has no function {source.item!r}; it has {', '.join(names) or 'none'}; "
            f"name it as {path.name}:FUNCTION"
        )
    try:
        return function()
    except TaskError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(
            f"{path.name}:{source.item} failed with {type(error).__name__}: {error}"
            f"{_line(error, path)}"
        ) from error


class _Fresh(SourceFileLoader):
    """Compiles what the file says now: cached byte code is trusted by size and time alone."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(path)


def _code_hash(source: Source) -> str:
    """A hash of the task file and of the modules beside it that it imported."""
    if source.kind != "file":
        return source.sha256
    hashes = [_sha256(Path(file)) for file in code_files(source)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def code_files(source: Source) -> list[str]:
    """A task file and the modules beside it that were imported, sorted.

    Not paramcast's own, of which each process imports others: a task may lie in its clone.
    """
    folder = Path(source.where).parent
    files = {source.where}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or "site-packages" in file or Path(file).is_relative_to(PACKAGE):
            continue
        if Path(file).is_relative_to(folder):
            files.add(str(file))
    return [file for file in sorted(files) if Path(file).is_file()]


def _line(error: BaseException, path: Path) -> str:
    """Where in the user's file an error came from."""
    trace, line = error.__traceback__, getattr(error, "lineno", None)
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def _table(source: Source) -> Task:
    """A table: numbers standardised, texts one-hot, a small network; 60/20/20."""
    import pandas as pd

    path, target = Path(source.where), source.item
    try:
        frame = pd.read_csv(path, low_memory=False)  # or types are guessed part by part
    except (ValueError, OSError, OverflowError) as error:
        raise TaskError(f"{path.name} cannot be read as a table: {error}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # or every cell counts for its neighbour
        raise TaskError(
            f"{path.name} has more cells in its rows than names in its first line; name every "
            "column there"
        )
    if target not in frame.columns:
        raise TaskError(
            f"{path.name} has no column {target!r}; it has {', '.join(map(str, frame.columns))}"
        )
    holes = frame.columns[frame.isna().any()].tolist()
    if holes:
        raise TaskError(
            f"{path.name} has empty or NaN cells in {', '.join(map(str, holes))}; fill or drop them"
        )
    column, features = frame[target], frame.drop(columns=target)
    if features.shape[1] == 0:
        raise TaskError(f"{path.name} has no column beside the target; nothing to predict from")
    if column.nunique() == 1 and pd.api.types.is_float_dtype(column):
        raise TaskError(f"column {target!r} of {path.name} holds one value only; nothing to learn")
    numbers = frame.select_dtypes("number")
    endless = numbers.columns[numbers.isin([math.inf, -math.inf]).any()].tolist()
    if endless:
        raise TaskError(
            f"{path.name} has infinite cells in {', '.join(map(str, endless))}; replace them"
        )
    texts = [c for c in features.columns if not pd.api.types.is_numeric_dtype(features[c])]
    for name in texts:
        if features[name].nunique() > MOST_CATEGORIES:
            raise TaskError(
                f"column {name!r} of {path.name} holds {features[name].nunique()} different texts "
                f"(at most {MOST_CATEGORIES}); drop it or turn it into numbers"
            )
    inputs = torch.tensor(
        pd.get_dummies(features, columns=texts, dtype=float).to_numpy(dtype=float)
    )
    numeric = pd.api.types.is_numeric_dtype(column) and column.dtype != bool
    if numeric and (column.nunique() > 20 or pd.api.types.is_float_dtype(column)):
        targets, labels = torch.tensor(column.to_numpy(dtype=float))[:, None], None
    else:
        codes, labels = pd.factorize(column, sort=True)
        targets = torch.tensor(codes, dtype=torch.long)
        _check_classes(path.name, [str(v) for v in labels], targets)
    train, validation, test = _split(
        len(inputs), targets if labels is not None else None, path.name
    )
    mean, std = inputs[train].mean(0), inputs[train].std(0)
    std[std < 1e-12] = 1.0  # a column that is constant in training
    inputs = ((inputs - mean) / std).float()
    if labels is None:
        targets = ((targets - targets[train].mean()) / targets[train].std()).float()
    return Task(
        name=path.stem,
        model=partial(mlp, inputs.shape[1], 1 if labels is None else len(labels)),
        train=(inputs[train], targets[train]),
        validation=(inputs[validation], targets[validation]),
        test=(inputs[test], targets[test]),
        loss=nnf.mse_loss if labels is None else nnf.cross_entropy,
        metric="mse" if labels is None else "accuracy",
        epochs=20,
        lr_range=(0.001, 0.3),
    )


def _images(source: Source) -> Task:
    """A folder of images per class, resized to 32x32, and a small convolutional network."""
    import numpy as np

    root = Path(source.where)
    folders = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_ENDINGS
    ]
    if len(folders) < 2 or not files:
        raise TaskError(
            f"{root.name} holds {len(folders)} folders with {len(files)} images; "
            "put the images of each class into a folder of its own, at least 2 classes"
        )
    inputs = (
        torch.tensor(np.stack([_pixels(file) for file, _ in files])).permute(0, 3, 1, 2).float()
        / 255
    )
    targets = torch.tensor([label for _, label in files])
    _check_classes(root.name, [folder.name for folder in folders], targets)
    train, validation, test = _split(len(inputs), targets, root.name)
    mean = inputs[train].mean((0, 2, 3), keepdim=True)
    std = inputs[train].std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    inputs = (inputs - mean) / std
    return Task(
        name=root.name,
        model=partial(small_cnn, 3, len(folders), IMAGE_SIZE, stages=3),
        train=(inputs[train], targets[train]),
        validation=(inputs[validation], targets[validation]),
        test=(inputs[test], targets[test]),
        epochs=15,
    )


def _pixels(file: Path) -> Any:
    """An image in 32x32 colours.

    Raises:
        TaskError: it is no image of a known kind, damaged, or so large that it fills the memory.
    """
    import numpy as np
    from PIL import Image

    try:
        if not file.is_file():  # a pipe would be waited for
            raise ValueError("it is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is stricter
            # other formats than these call programs (PostScript) or are read by little-used code
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(
                        f"{image.width} x {image.height} pixels, more than {MOST_PIXELS}"
                    )
                small = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE))
    except Exception as error:  # a damaged file lets a decoder raise anything
        raise TaskError(
            f"{file.parent.name}/{file.name} cannot be read as an image "
            f"({str(error) or type(error).__name__}); remove it"
        ) from None
    return np.asarray(small, dtype=np.uint8)


def _check_classes(name: str, labels: list[str], targets: torch.Tensor) -> None:
    counts = torch.bincount(targets, minlength=len(labels))
    if len(labels) < 2:
        raise TaskError(f"{name} has only the class {labels}; at least 2 are needed")
    fewest = int(counts.argmin())
    if int(counts[fewest]) < FEWEST_PER_CLASS:
        raise TaskError(
            f"class {labels[fewest]!r} of {name} has {int(counts[fewest])} examples; "
            f"at least {FEWEST_PER_CLASS} are needed to split it"
        )


def _split(count: int, stratify: torch.Tensor | None, name: str) -> tuple[list[int], ...]:
    """60/20/20 at random with a fixed seed, classes in equal shares."""
    from sklearn.model_selection import train_test_split

    if count < 20:
        raise TaskError(f"{name} has {count} examples; at least 20 are needed to split them")
    labels = None if stratify is None else stratify.numpy()
    try:
        train, rest = train_test_split(
            list(range(count)), train_size=0.6, random_state=0, stratify=labels
        )
        validation, test = train_test_split(
            rest, train_size=0.5, random_state=0, stratify=None if labels is None else labels[rest]
        )
    except ValueError as error:
        raise TaskError(f"{name} cannot be split by class: {error}") from None
    return train, validation, test


def _file(path: Path) -> Path:
    if not path.is_file():
        raise TaskError(f"there is no file {shown(str(path))}; check the path")
    return path.resolve()


def _sha256(path: Path) -> str:
    return hashlib.sha256(_file(path).read_bytes()).hexdigest()
