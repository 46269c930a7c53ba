#!/usr/bin/env bash
# The core tests with other versions of Python and torch, each in an environment of its own. By hand:
#   bash tests/versions.sh                      all pairs of the table in docs/install.md
#   bash tests/versions.sh 3.10:2.6.0 3.13:2.14 these
# A Python that is not installed is skipped. Prints a line of the table for each pair, and what failed.
set -uo pipefail
cd "$(dirname "$0")/.."
pairs=("$@")
[ ${#pairs[@]} -gt 0 ] || pairs=(3.10:2.6.0 3.12:2.13.0 3.13:2.14.0)
tests=(tests/test_forecast.py tests/test_predictors.py tests/test_gates.py tests/test_anomalies.py
  tests/test_averaging.py tests/test_checkpoint.py tests/test_conformance.py tests/study/test_loop.py
  tests/study/test_stats.py tests/study/test_verdict.py)
failed=0
for pair in "${pairs[@]}"; do
  python=python${pair%%:*} torch=${pair##*:}
  if ! command -v "$python" >/dev/null; then
    echo "| ${pair%%:*} | $torch | skipped: no $python |"
    continue
  fi
  place=$(mktemp -d)
  if ! { "$python" -m venv "$place" &&
    "$place/bin/pip" install -q --disable-pip-version-check "torch==$torch" -e '.[study]' \
      pytest pytest-timeout pytest-xdist hypothesis expecttest mpmath psutil schedulefree; } >"$place/log" 2>&1; then
    said="not installed: $(grep -m1 -i error "$place/log" | cut -c1-100)"
    failed=1
  elif "$place/bin/python" -m pytest -q -p no:cacheprovider "${tests[@]}" >"$place/log" 2>&1; then
    said=$(tail -1 "$place/log" | tr -d '=' | xargs)
  else
    said="FAILED: $(tail -1 "$place/log" | tr -d '=' | xargs)"
    grep -E '^(FAILED|ERROR) ' "$place/log" >&2
    failed=1
  fi
  echo "| ${pair%%:*} | $torch | $said |"
  rm -rf "$place"
done
exit $failed
