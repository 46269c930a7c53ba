"""The example under torchrun."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "11_distributed.py"


@pytest.mark.ci
def test_the_example_runs_in_two_processes(tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, str(EXAMPLE)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the resumed run is bitwise the same") == 2
    held = re.findall(r"(\d+) of (\d+) parameters, (\d+) buffer elements", done.stdout)
    assert len(held) == 2
    assert all(share == buffers for share, _, buffers in held)
    assert sum(int(share) for share, _, _ in held) == int(held[0][1])
