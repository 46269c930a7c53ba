"""What a release holds: built, installed into an empty environment, and used there."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PENCIL = """
import torch, paramcast
point = torch.nn.Parameter(torch.tensor([0.0]))
optimizer = paramcast.PLP(torch.optim.SGD([point], lr=1.0))
for gradient in (-1.0, -2.0, -4.0):  # theta: 1, 3, 7
    point.grad = torch.tensor([gradient])
    optimizer.step()
assert point.item() == 7 + (3 - 1) / 2, point
assert "site-packages" in paramcast.__file__
"""


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, timeout=1500
    )
    assert done.returncode == 0, f"{words}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.ci
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    """Needs a package index for torch and the other requirements."""
    builder, user, made = (tmp_path / name for name in ("builder", "user", "dist"))
    for environment in (builder, user):
        run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    pip = "-m", "pip", "install", "-q", "--disable-pip-version-check"
    # the wheel is built from the source archive
    run(builder / "bin/python", *pip, "build", cwd=tmp_path)
    run(builder / "bin/python", "-m", "build", "--outdir", made, ROOT, cwd=tmp_path)
    (wheel,), (archive,) = made.glob("*.whl"), made.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        assert any(name.endswith("/tests/reference.py") for name in held.getnames())
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
    for needed in ("study/text/ja.json", "report/html/static/report.js", "py.typed"):
        assert f"paramcast/{needed}" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"paramcast"}
    # and used where nothing else is
    constraints = ROOT / "constraints.txt"
    wanted = f"paramcast[study] @ {wheel.as_uri()}"
    run(user / "bin/python", *pip, "-c", constraints, wanted, cwd=tmp_path)
    assert "pilot" in run(user / "bin/paramcast", "--help", cwd=tmp_path)
    run(user / "bin/python", "-c", PENCIL, cwd=tmp_path)
    run(user / "bin/paramcast", "pilot", "--quick", "--out", "pilot", cwd=tmp_path)
    (cell,) = json.loads((tmp_path / "pilot" / "result.json").read_text("utf-8"))["cells"]
    assert cell["verdicts"]["plp"]["quality"]["kind"]
    assert (tmp_path / "pilot" / "report.html").stat().st_size > 1_000_000
