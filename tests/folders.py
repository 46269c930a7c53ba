"""A small finished pilot and a small finished study, made once per process, to be spoilt."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "report"))
from synthetic import write_pilot, write_study

STUDY = """
name = "small"
question = "Does it help?"
[[grid]]
task = "digits"
methods = ["plp"]
seeds = 2
epochs = 1
batch_size = [16, 32]
lr = [0.01, 0.05]
"""


@cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="paramcast-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def pilot_folder() -> Path:
    write_pilot(scratch() / "pilot", methods="plp", seeds=2, trials=1, trial_seeds=1, epochs=2)
    return scratch() / "pilot"


@cache
def study_folder() -> Path:
    write_study(scratch() / "study", STUDY)
    return scratch() / "study"


def copy_of(folder: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(folder, place))
