"""Where a built-in task's data are searched for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ....errors import TaskError
from ...reading import usable_path
from .download import Remote, download
from .files import checked

VARIABLE = "PARAMCAST_DATA"


@dataclass(frozen=True)
class DataSet:
    """A public data set: how to recognise it in a folder, and its public home."""

    name: str  # of its folder in the cache, and what messages call it
    folders: tuple[str, ...]  # other names that its folder may have inside a place
    marks: tuple[str, ...]  # patterns of file names; a folder with a match of one holds the data
    remotes: tuple[Remote, ...]  # the files at its public home
    system: tuple[str, ...] = ()  # folders of system packages
    advice: str = ""  # how else to get it

    @classmethod
    def of_file(cls, name: str, folders: tuple[str, ...], remote: Remote) -> DataSet:
        """A data set that is one file, recognised by its name."""
        return cls(name, folders, (remote.file,), (remote,))

    def inside(self, place: Path) -> Path | None:
        """The folder in a place, or the place itself, that holds the data set, if any."""
        for folder in (*(place / name for name in (self.name, *self.folders)), place):
            if any(next(folder.glob(mark), None) for mark in self.marks):
                return folder.resolve()
        return None

    def only_file(self, folder: Path) -> Path:
        """Its file, if it has one: there and undamaged."""
        (remote,) = self.remotes
        return checked(folder / remote.file, remote.sha256)

    def whereabouts(self, data_dir: str | None = None) -> str:
        """Where it is, in words; nothing is downloaded."""
        if data_dir is not None:
            return str(self.inside(_folder(data_dir, "--data-dir")) or f"not in {data_dir}")
        found = search(self)
        if found is not None:
            return str(found)
        size = sum(remote.size for remote in self.remotes) / 1e6
        return f"not here; the first use downloads {size:.0f} MB to {cache() / self.name}"


def locate(data: DataSet, data_dir: str | None = None) -> Path:
    """The folder that holds a data set, downloading it into the cache if no place has it.

    Raises:
        TaskError: `data_dir` does not hold it, or it is nowhere and cannot be downloaded.
    """
    found = search(data, data_dir)
    if found is not None:
        return found
    folder = cache() / data.name
    try:
        for remote in data.remotes:
            download(remote, folder)
    except TaskError as error:
        raise TaskError(
            f"{data.name} is not on this machine and could not be fetched: {error}"
            f"{'; or ' + data.advice if data.advice else ''}; or name its folder with --data-dir"
        ) from None
    return folder


def search(data: DataSet, data_dir: str | None = None) -> Path | None:
    """The folder that holds a data set; None if no place has it.

    The order: `data_dir`, and nothing else if it is given; the folder that the environment
    variable PARAMCAST_DATA names; ../shared/data beside the current folder; the system's
    packages; the user's cache.
    """
    if data_dir is not None:
        found = data.inside(_folder(data_dir, "--data-dir"))
        if found is None:
            names, folders = " or ".join(data.marks), ", ".join((data.name, *data.folders))
            raise TaskError(
                f"--data-dir {data_dir} does not hold {data.name}: no {names} in it or in "
                f"{folders}; put the files there or leave --data-dir out"
            )
        return found
    named, beside = os.environ.get(VARIABLE), Path.cwd().parent / "shared" / "data"
    places = [_folder(named, VARIABLE)] if named else []
    places += [beside] if _own(beside) else []
    for place in (*places, *map(Path, data.system)):
        found = data.inside(place)
        if found is not None:
            return found
    folder = cache() / data.name
    complete = all((folder / remote.file).is_file() for remote in data.remotes)
    return folder if complete else None


def cache() -> Path:
    """The user's cache folder for paramcast."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"  # relative: ignored
    return base / "paramcast"


def _folder(text: str, name: str) -> Path:
    """The folder that an option or a variable names."""
    place = usable_path(text, name, home=True)
    if not place.is_dir():
        raise TaskError(f"{name} {text} is not a folder; name one that holds the data")
    return place


def _own(folder: Path) -> bool:
    """Whether a folder nobody named may be trusted: others cannot have put things there."""
    try:
        about = folder.stat()
    except OSError:
        return False
    if not folder.is_dir() or not hasattr(os, "getuid"):
        return folder.is_dir()
    return about.st_uid in (0, os.getuid()) and not about.st_mode & 0o002
