#!/bin/sh
# What the tests use beside Python, where it can be had: qemu (ARM programs) with AArch64's system libraries
# (onnxruntime under qemu), gcc (its sanitizers; zig compiles all else), Node and Chromium (WebAssembly).
# A part that cannot be installed is named, and the tests that need it are skipped with that reason.
set -eu
cd "$(dirname "$0")/.."

has() {
    command -v "$1" >/dev/null 2>&1
}

wanted=""
has qemu-aarch64 || has qemu-aarch64-static || wanted="$wanted qemu-user"
for library in libc6:libc.so.6 libstdc++6:libstdc++.so.6 libgcc-s1:libgcc_s.so.1; do
    [ -e "/usr/aarch64-linux-gnu/lib/${library#*:}" ] || wanted="$wanted ${library%%:*}-arm64-cross"
done
has gcc || has clang || wanted="$wanted gcc libc6-dev"
has node || wanted="$wanted nodejs"
has npm || wanted="$wanted npm"
has chromium || has chromium-browser || has google-chrome || wanted="$wanted chromium"

if [ -n "$wanted" ]; then
    if has apt-get && [ "$(id -u)" = 0 ]; then
        echo "installing$wanted"
        apt-get update -qq >/dev/null 2>&1 || echo "note: apt-get update failed" >&2
        for package in $wanted; do
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
                >/dev/null 2>&1 || echo "note: $package could not be installed; its tests are skipped" >&2
        done
    else
        echo "note: not installed, so their tests are skipped:$wanted" >&2
    fi
fi

# JavaScript packages: of our runtime's tests, and of the engines that `gossamer bench` measures beside it.
for folder in runtime/web tools/peers/web; do
    has npm || break
    stamp=$folder/node_modules/.installed
    state=$(cksum <$folder/package-lock.json)
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$state" ]; then
        if (cd $folder && npm ci --no-audit --no-fund --loglevel=error); then
            echo "$state" >"$stamp"
        else
            echo "note: npm ci failed in $folder; the tests that need it are skipped" >&2
        fi
    fi
done
