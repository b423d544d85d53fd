#!/bin/sh
# All that only a GPU can show: the tests that need one, then speed; one table at the end. Under nine minutes on an H200.
#   benchmarks/gpu.sh                 # PYTHON names an interpreter with the project's packages
#   benchmarks/gpu.sh --rehearse      # the same programs on the CPU with tiny sizes: does everything run?
set -u
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
# Scripts and tests find the package without an installation.
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHONUNBUFFERED=1
export PYTHONPATH PYTHONUNBUFFERED
if [ "${1:-}" != --rehearse ]; then
    timeout 240 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/gpu
    echo "GPU tests: exit status $?"
fi
exec "$PYTHON" benchmarks/gpu.py "$@"
