"""Bombs are refused before they fill the memory: read with half a gigabyte to spare."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SPARE = 512 * 2**20
READ_WITH_LITTLE = """
import resource, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from inputs import BOMBS, table
from test_bad_inputs import check

rows = [row for row in table() if row.name in BOMBS]
assert {row.name for row in rows} == set(BOMBS)
made = []
for i, row in enumerate(rows):
    place = Path(sys.argv[3]) / str(i)
    place.mkdir()
    made.append((row, row.make(place), place))
check(*made[0])  # imports
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    bytearray(4 * int(sys.argv[4]))  # what was mapped and is free again may be taken once more
except MemoryError:
    print("the limit holds")
for each in made:
    check(*each)
"""


@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
def test_bombs_are_refused_with_half_a_gigabyte_to_spare(tmp_path: Path) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_LITTLE, here, here.parent, tmp_path, str(SPARE)],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # each thread would reserve 64 MiB
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "the limit holds\n"), done.stderr
