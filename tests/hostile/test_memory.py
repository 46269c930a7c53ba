"""Bombs are refused before they fill the memory: read with half a gigabyte to spare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from inputs import table

BOMBS = (
    "a parquet file that claims ten million million images",
    "a parquet file whose images claim ten terabytes",
    "a parquet file with a column that claims ten terabytes",
    "a parquet file of 1.4 kilobytes whose rows repeat ten megabytes each",
    "a parquet file of 7 kilobytes with a page of 200 megabytes, which its footer denies",
    "an archive whose file claims ten terabytes",
    "a labels file that unpacks to 100 megabytes",
    "a labels file that claims four thousand million labels",
    "a table of a megabyte that unpacks to 200",
    "a Parquet table of a kilobyte whose rows repeat a text of ten megabytes",
    "a Parquet table that claims ten terabytes",
    "an image that claims 100,000 x 100,000 pixels",
    "an image that claims 15,000 x 10,000 pixels",
    "a key of 20,000 parts, which would take minutes and gigabytes",
    "a sharded cycle whose header is one number, 10^12",
    "a window of a thousand million points",
)
SPARE = 512 * 2**20
READ_WITH_LITTLE = """
import json, resource, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from inputs import table
from test_bad_inputs import answer

rows = {row.name: row for row in table()}
places = {name: Path(sys.argv[3]) / str(i) for i, name in enumerate(json.loads(sys.argv[4]))}
made = {}
for name, place in places.items():
    place.mkdir()
    made[name] = rows[name].make(place)
first = next(iter(places))
answer(made[first], places[first])  # imports
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[5])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
said = {}
try:
    bytearray(int(sys.argv[5]) + 2**20)
except MemoryError:
    said["the limit"] = "holds"
for name, words in made.items():
    said[name] = answer(words, places[name])
print(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
def test_bombs_are_refused_with_half_a_gigabyte_to_spare(tmp_path: Path) -> None:
    here = Path(__file__).parent
    words = [here, here.parent, tmp_path, json.dumps(BOMBS), SPARE]
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_LITTLE, *map(str, words)],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # each thread would reserve 64 MiB
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("the limit") == "holds"
    rows = {row.name: row for row in table()}
    assert set(said) == set(BOMBS)
    assert [name for name, message in said.items() if not rows[name].fits(message)] == []
