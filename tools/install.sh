#!/bin/sh
# Makes .venv and installs gossamer into it, editable, with the versions of constraints.txt.
#   sh tools/install.sh models   everything that `make demo` needs
#   sh tools/install.sh dev      the same with the tools of the tests
set -eu
cd "$(dirname "$0")/.."
kind=${1:-dev}
stamp=.venv/.installed-$kind

state=$(cat pyproject.toml constraints.txt tools/install.sh | cksum)
for done in "$stamp" .venv/.installed-dev; do # the tools of the tests come with everything else
    if [ -f "$done" ] && [ "$(cat "$done")" = "$state" ] && .venv/bin/python -c 'import gossamer' 2>/dev/null; then
        exit 0
    fi
done

fail() {
    echo "error: $1" >&2
    exit 1
}

find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    [ -n "$python" ] || fail "no Python 3.11 or newer was found; install python3 or set PYTHON=/path/to/python3"
    echo "making .venv with $($python --version)"
    rm -rf .venv
    "$python" -m venv .venv || fail "cannot make .venv; on Debian and Ubuntu: apt-get install python3-venv"
fi

pip() {
    .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"
}

echo "installing pinned dependencies into .venv (a few minutes, once)"
pip install -qq -c constraints.txt pip setuptools
pip install -qq -c constraints.txt torch # first: the largest, and a build for this machine is kept if present
if [ "$kind" = dev ]; then
    pip install -qq -c constraints.txt --group dev -e '.[models,openvino,litert]'
    # onnxruntime's library for AArch64, whose instructions `gossamer bench` counts under qemu.
    pip install -qq -c constraints.txt --target .venv/aarch64 --upgrade --no-deps --only-binary :all: \
        --python-version 3.11 --platform manylinux_2_28_aarch64 onnxruntime ||
        echo "note: onnxruntime for AArch64 could not be installed; its test is skipped" >&2
else
    pip install -qq -c constraints.txt -e '.[models]'
fi
echo "$state" >"$stamp"
