#!/bin/sh
# All that only a GPU can show: the tests that need one, then speed; one table at the end. Under nine minutes.
#   benchmarks/gpu.sh                 # PYTHON names an interpreter with the project's packages
#   benchmarks/gpu.sh --rehearse      # the same programs on the CPU with tiny sizes: does everything run?
set -u
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
# Scripts and tests find the package without an installation.
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHONUNBUFFERED=1
CUBLAS_WORKSPACE_CONFIG=:4096:8
export PYTHONPATH PYTHONUNBUFFERED CUBLAS_WORKSPACE_CONFIG
"$PYTHON" -c 'import pytest, torch, xferlab.tasks.registry, xferlab.trial.run' || exit 2
if [ "${1:-}" != --rehearse ]; then
    # Interrupted, pytest tells what it has found so far.
    timeout -s INT -k 10 150 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider --continue-on-collection-errors \
        -W 'ignore:Please use the new API settings' tests/gpu
    echo "GPU tests: exit status $?"
fi
exec "$PYTHON" benchmarks/gpu.py "$@"
