#!/usr/bin/env bash
# What every job does: run one script of the pipeline in its Python environment.
#     bash jobs/run.sh SCRIPT.py [OPTION...]
# Status 1 (some inputs failed, the rest is usable) becomes 0, so that one bad video never blocks the next step; 2 stays.
set -uo pipefail

CONDA_ENV=${CONDA_ENV:-}  # name or path of a conda environment, else the virtual environment VENV is used
VENV=${VENV:-.venv}       # a path, relative to the repository

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
if [ -n "$CONDA_ENV" ]; then
    python=(conda run --no-capture-output -p "$CONDA_ENV" python)
    [ -d "$CONDA_ENV" ] || python=(conda run --no-capture-output -n "$CONDA_ENV" python)
else
    python=("$VENV/bin/python")
    [ -x "${python[0]}" ] || { echo "error: ${python[0]} does not exist: run make once, or set VENV or CONDA_ENV" >&2; exit 2; }
fi
echo "$(date '+%F %T') $(hostname): $*" >&2
"${python[@]}" "$1" --help > /dev/null || { echo "error: $1 cannot start in this Python environment" >&2; exit 2; }
"${python[@]}" "$@"
status=$?
if [ "$status" -eq 1 ]; then
    echo "status 1: some inputs failed (named above, all of them in failed.csv); the rest is done, so the pipeline goes on" >&2
    exit 0
fi
exit "$status"
