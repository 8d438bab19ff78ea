#!/usr/bin/env bash
# Makes .venv with the pinned packages and the built extension; does nothing when that is done.
# Sourced by quickstart.sh and test.sh; DB1_VENV names another folder, PYTHON another interpreter,
# DB1_ALL=1 adds every suite and importer (requirements-all.txt).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${DB1_VENV:-.venv}
PYTHON=${PYTHON:-python3}

fail() { echo "setup: error: $*" >&2; exit 2; }

need_packages() { # need_packages WHAT DEBIAN_PACKAGE...
    local what=$1; shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing $* ($what)"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        fail "$what is missing; run: sudo apt-get install $*"
    fi
}

command -v "$PYTHON" >/dev/null || need_packages "Python" python3 python3-venv python3-dev
VERSION=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $VERSION in
    3.10|3.11|3.12|3.13) ;;
    *) fail "$PYTHON is Python $VERSION, expected 3.10 to 3.13 (mujoco 3.3.0 has no other builds);" \
            "install one and run: PYTHON=python3.12 bash $0" ;;
esac
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null \
    || need_packages "venv of Python $VERSION" "python$VERSION-venv"
HEADERS=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$HEADERS/Python.h" ] || need_packages "the header Python.h" "python$VERSION-dev"
command -v g++ >/dev/null || need_packages "a C++ compiler" g++

ALL=${DB1_ALL:-}
# A folder that once had all keeps it.
[ -f "$VENV/db1-setup" ] && grep -qE '^[0-9a-f]+-all-' "$VENV/db1-setup" && ALL=1
if [ -n "$ALL" ]; then
    ldconfig -p | grep -q 'libQt5Gui\.so\.5' || need_packages "Qt for Procgen" libqt5gui5
    ldconfig -p | grep -q 'libEGL\.so\.1' || need_packages "EGL for pixels" libegl1 libegl-mesa0 libglu1-mesa
    if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
        if grep -q '^ID=debian' /etc/os-release; then
            need_packages "a browser for the tests of pages" chromium chromium-driver fonts-dejavu-core
        else # Ubuntu's package is a snap, which cannot open files below /tmp
            echo "setup: no chromium and chromedriver here; the tests of pages will be skipped"
        fi
    fi
fi
STAMP=$(cat requirements*.txt setup.py pyproject.toml csrc/* | sha256sum | cut -c1-16)${ALL:+-all}-$VERSION-$PWD
if [ "$(cat "$VENV/db1-setup" 2>/dev/null || true)" != "$STAMP" ]; then
    echo "setup: installing into $VENV (a few minutes the first time)"
    [ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
    PIP=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
    # torch before the rest: other packages' builds look at it.
    # shellcheck disable=SC2046
    "${PIP[@]}" $(grep -E '^(torch|setuptools|wheel|pybind11|ninja)==' requirements.txt)
    "${PIP[@]}" --no-build-isolation -r requirements.txt
    if [ "$VERSION" = 3.13 ]; then
        # dm-control wants labmaze, which has no build for 3.13; the suite does not use it.
        "${PIP[@]}" --no-deps "$(grep -oE '^dm-control==[0-9.]+' requirements.txt)"
    fi
    if [ -n "$ALL" ]; then
        "${PIP[@]}" --no-build-isolation -r requirements-all.txt
        # A test oracle only; its dependencies would bring a second torch stack.
        "${PIP[@]}" --no-deps megatron-core==0.16.1
    fi
    "${PIP[@]}" --no-build-isolation --no-deps -e .
    echo "$STAMP" > "$VENV/db1-setup"
fi
PATH="$PWD/$VENV/bin:$PATH"
case $VENV in /*) PATH="$VENV/bin:$PATH" ;; esac
export PATH

# Rendering without a screen, where the library for it is there (only pixel tasks need it).
if [ -z "${MUJOCO_GL:-}" ] && ldconfig -p 2>/dev/null | grep -q 'libEGL\.so\.1'; then
    export MUJOCO_GL=egl
fi
