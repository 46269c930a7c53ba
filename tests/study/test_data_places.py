"""Where data are looked for, and in which order."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paramcast.errors import TaskError
from paramcast.study.tasks.data.download import Remote
from paramcast.study.tasks.data.places import DataSet, cache, locate, search

NOWHERE = "http://127.0.0.1:9/x.bin"  # the discard port: nobody answers


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: home, current folder project/, an empty environment."""
    for name in ("home", "project", "system", "mine", "named"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("PARAMCAST_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def letters(world: Path) -> DataSet:
    return DataSet(
        name="letters", folders=("abc",), marks=("*.bin",), remotes=(Remote(NOWHERE, "0" * 64, 3),),
        system=(str(world / "system"),), advice="apt install letters",
    )  # fmt: skip


def put(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.bin").write_bytes(b"abc")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the cache's folder is the platform's")
def test_the_order_of_the_places(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = letters(world)
    assert search(data) is None
    in_order = [put(world / "home" / ".cache" / "paramcast" / "letters")]
    assert search(data) == in_order[0]
    for folder in ("system", "shared/data/letters", "mine/abc"):
        if folder.startswith("mine"):
            monkeypatch.setenv("PARAMCAST_DATA", str(world / "mine"))
        in_order.append(put(world / folder))
        assert search(data) == in_order[-1] == locate(data)
    given = put(world / "named" / "letters")
    assert search(data, str(world / "named")) == given
    assert search(data, str(given)) == given


@pytest.mark.parametrize("inside", ["", "letters", "abc"])
def test_a_place_holds_it_itself_or_in_a_folder_of_that_name(world: Path, inside: str) -> None:
    folder = put(world / "named" / inside)
    assert search(letters(world), str(world / "named")) == folder.resolve()


def test_a_named_folder_is_the_only_one(world: Path) -> None:
    put(world / "system")
    with pytest.raises(TaskError, match=r"--data-dir .*named does not hold letters: no \*\.bin"):
        locate(letters(world), str(world / "named"))
    with pytest.raises(TaskError, match=r"--data-dir .*gone is not a folder"):
        locate(letters(world), str(world / "gone"))


def test_a_variable_that_names_no_folder(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMCAST_DATA", str(world / "gone"))
    with pytest.raises(TaskError, match=r"PARAMCAST_DATA .*gone is not a folder; name one"):
        search(letters(world))


def test_a_folder_beside_in_which_anyone_may_write_is_left_alone(world: Path) -> None:
    folder = put(world / "shared" / "data" / "letters")
    assert search(letters(world)) == folder
    os.chmod(folder.parent, 0o777)
    assert search(letters(world)) is None


def test_what_is_nowhere_says_how_to_get_it(world: Path) -> None:
    with pytest.raises(TaskError, match=r"letters is not on this machine") as caught:
        locate(letters(world))
    said = str(caught.value)
    for words in (NOWHERE, "apt install letters", "name its folder with --data-dir"):
        assert words in said
    bare = replace(letters(world), advice="")
    assert bare.whereabouts().startswith("not here; the first use downloads 0 MB to ")


def test_the_cache_follows_the_specification(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = world / "home"
    assert cache() == home / ".cache" / "paramcast"
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "x"))
    assert cache() == world / "x" / "paramcast"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification: ignore it
    assert cache() == home / ".cache" / "paramcast"
