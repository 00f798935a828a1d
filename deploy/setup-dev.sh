#!/bin/sh
# Sets up a checkout for work: the virtual environment, and the broker the tests talk to. Called by the Makefile.
#
#   setup-dev.sh venv        .venv with streamrnn, enough to run it
#   setup-dev.sh venv dev    the same with the tools that check it
#   setup-dev.sh venv bench  the same with what it is measured beside
#   setup-dev.sh mosquitto   the distribution's mosquitto, when there is none
#
# What is already there is left alone. What needs root is done by root or by sudo without a password; otherwise
# it stops and names the command to run.
set -eu

VENV=.venv
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # Debian keeps mosquitto in /usr/sbin, which a user's PATH may lack

say() {
    echo "setup: $*" >&2
}

stop() {
    say "$@"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# install_packages WHY PACKAGE...
install_packages() {
    why=$1
    shift
    by_hand="apt-get update && apt-get install -y --no-install-recommends $*"
    if ! have apt-get; then
        stop "$why. There is no apt-get here: install $* (or its equivalent) with your package manager, then run make again."
    elif [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif have sudo && sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        stop "$why. Run this as root, then run make again:
    $by_hand"
    fi
    say "$why: installing $*"
    # A stale list of packages may still do, so only the installation decides. $as_root is one or two words.
    # shellcheck disable=SC2086
    $as_root apt-get update -q >&2 || say "apt-get update failed; trying with the package lists that are here"
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2 ||
        stop "could not install $*. To see why, run as root:
    $by_hand"
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the first interpreter that is new enough.
find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if have "$candidate" && is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    if ! python=$(find_python); then
        install_packages "no Python 3.11 or newer was found" python3 python3-venv
        python=$(find_python) ||
            stop "this system's python3 is older than 3.11. Install Python 3.11 or newer, then run make again."
    fi
    # Debian ships venv without the ensurepip it needs: found out before, as a failed venv leaves a broken one.
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        install_packages "$python cannot make virtual environments" "$python-venv"
        "$python" -c 'import ensurepip, venv' ||
            stop "$(command -v "$python") still cannot make virtual environments; is it the system's own Python?"
    fi
    say "making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
}

set_up_venv() {
    [ -f pyproject.toml ] || stop "run this from the top of the checkout"
    # A folder left by an interrupted set-up, or whose Python has gone, is made anew.
    if ! is_new_enough "$VENV/bin/python" || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        make_venv
    fi
    what=.
    [ -z "$1" ] || what=".[$1]"
    say "installing $what into $VENV (once; a few minutes on a small computer)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$what" ||
        stop "pip could not install $what (its message is above); run make again once that is mended."
    touch "$VENV/.ready"
    [ -z "$1" ] || touch "$VENV/.ready-$1"
}

set_up_mosquitto() {
    have mosquitto || install_packages "the tests need the mosquitto broker" mosquitto
    have mosquitto || stop "mosquitto is installed but not found on PATH ($PATH)"
}

case "$*" in
venv) set_up_venv "" ;;
"venv dev") set_up_venv dev ;;
"venv bench") set_up_venv bench ;;
mosquitto) set_up_mosquitto ;;
*) stop "usage: setup-dev.sh venv [dev|bench] | mosquitto" ;;
esac
