#!/usr/bin/env bash
# Checks and times every homework on one CUDA GPU, in at most 8 minutes and without network.
#
#     benchmarks/gpu.sh prepare          # with network: fetches the wheels that a bare machine with torch lacks
#     benchmarks/gpu.sh [FOLDER] [flags of benchmarks/gpu.py]
#
# The machine needs Python 3.12 with torch 2.11, torchvision 0.26, torchaudio 2.11, numpy, matplotlib, scikit-learn, h5py,
# pillow, safetensors, filelock and tqdm. The wheels lie in .wheels/, which git ignores; they take about 8 MB and travel
# with the repository. The results are printed and written to FOLDER/gpu.json (default: results/gpu).
set -euo pipefail
cd "$(dirname "$0")/.."
packages="captum nltk medmnist soundfile rapidfuzz cffi pycparser threadpoolctl joblib regex click"

if [ "${1:-}" = prepare ]; then
  rm -rf .wheels && mkdir .wheels
  for package in $packages; do
    version=$(sed -nE "s/^$package==([^ ]+).*/\1/p" requirements.lock)
    "${PYTHON:-python3}" -m pip download -qq --disable-pip-version-check --no-deps --only-binary=:all: \
      --python-version 3.12 --implementation cp --dest .wheels \
      --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
      --platform manylinux2014_x86_64 "$package==$version"
  done
  du -sh .wheels
  exit
fi

python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ -d .wheels ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" .wheels/*.whl
  export PYTHONPATH="$site:$PYTHONPATH"
fi
out=results/gpu
case "${1:-}" in ''|-*) ;; *) out=$1; shift ;; esac
PYTHONUNBUFFERED=1 "$python" benchmarks/gpu.py --out "$out" "$@"
