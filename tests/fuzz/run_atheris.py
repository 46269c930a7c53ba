"""Fuzz one parser, or each in turn, guided by the coverage of paramcast's code.

    python tests/fuzz/run_atheris.py parquet --seconds 600
    python tests/fuzz/run_atheris.py all --seconds 60

What breaks a parser is printed and kept in the folder that is named; once it is understood, the
file goes into tests/fuzz/corpus/PARSER/, whose files every test run reads again. An input that
takes more than 30 seconds or 4 GB counts as a break. Needs `pip install -e '.[fuzz]'` (Linux or
macOS, Python 3.11 to 3.13).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return fuzz(given.target, given.seconds, Path(given.inside))
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from targets import TARGETS

    names = list(TARGETS) if given.target == "all" else [given.target]
    return max([run(name, given.seconds) for name in names])


def run(name: str, seconds: int) -> int:
    """Fuzz in a process of its own, which libFuzzer ends; one line about it."""
    folder = Path(tempfile.mkdtemp(prefix=f"paramcast-fuzz-{name}-"))
    words = [sys.executable, __file__, name, "--seconds", str(seconds), "--inside", str(folder)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    counted = re.search(r"Done (\d+) runs in (\d+) second", done.stdout)
    if done.returncode == 0 and counted:
        covered = re.findall(r" cov: (\d+) ", done.stdout)[-1:] or ["0"]
        print(f"{name}: {counted[1]} inputs, {covered[0]} edges, nothing broke", flush=True)
        return 0
    print(done.stdout[-6000:], f"\n{name}: broke; the input is in {folder}", flush=True)
    return 1


def fuzz(name: str, seconds: int, folder: Path) -> int:
    import atheris

    sys.path[:0] = [str(HERE), str(HERE.parent)]
    with atheris.instrument_imports(include=["paramcast"]):
        import targets
    import torch

    torch.set_num_threads(1)
    grown = folder / "grown"
    grown.mkdir()
    for i, seed in enumerate(targets.seeds_of(name)):
        (grown / f"seed{i}").write_bytes(seed)
    targets.run(name, targets.mutated(name, b"\1\2\3\4"))  # imports, which are no part of an input
    corpus = HERE / "corpus" / name
    folders = [grown, corpus] if corpus.is_dir() else [grown]
    options = [
        f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=4096",
        f"-artifact_prefix={folder}/", *map(str, folders),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], lambda content: targets.run(name, content))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
