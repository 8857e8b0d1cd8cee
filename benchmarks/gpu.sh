#!/bin/bash
# Checks and measures everything that needs a GPU, in at most 10 minutes and without a network; see benchmarks/README.md.
#   bash benchmarks/gpu.sh [--weights FOLDER] [--output FOLDER] [--part NAME ...] [--small --device cpu]
# PYTHON: the interpreter that has torch (python3). GPU_WEIGHTS: --weights. GPU_WHEELS: a folder of packages that it lacks.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD:$PWD/plugins:$PWD/training:$PWD/reports${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${GPU_WHEELS:-}" ]; then
  packages=$(mktemp -d)
  trap 'rm -rf "$packages"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$packages" "$GPU_WHEELS"/*.whl
  export PYTHONPATH="$packages:$PYTHONPATH"
fi
timeout --kill-after=5 "${GPU_SECONDS:-595}" "$python" -m benchmarks.gpu "$@"
