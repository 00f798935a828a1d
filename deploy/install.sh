#!/bin/sh
# Installs streamrnn as a service, from the checkout it is in. As root:
#
#   deploy/install.sh              /opt/streamrnn/venv, the units, /etc/streamrnn/streamrnn.yaml if there is none
#   deploy/install.sh uninstall    takes that away, and leaves the configuration and what was learned
#   deploy/install.sh purge        takes that away, too
#
# Run it again for a newer version: what you have written in /etc/streamrnn stays, and the service is started anew.
# PREFIX=/some/root installs below another root, without asking systemd for anything.
set -eu

ROOT=${PREFIX:-}
OPT=$ROOT/opt/streamrnn
ETC=$ROOT/etc/streamrnn
UNITS=$ROOT/etc/systemd/system
HERE=$(cd "$(dirname "$0")" && pwd)

say() {
    echo "streamrnn: $*"
}

stop() {
    echo "streamrnn: $*" >&2
    exit 1
}

# Whether a systemd runs that is to be told.
systemd() {
    [ -z "$ROOT" ] && [ -d /run/systemd/system ]
}

# Every instance that systemd knows, and the service without a name.
instances() {
    systemctl list-units --all --plain --no-legend 'streamrnn.service' 'streamrnn@*.service' | awk '{ print $1 }'
}

# Takes what the service and its instances have below /var/cache or /var/lib, where systemd keeps it and has a link to it.
remove_kept() {
    rm -rf "$ROOT/var/$1/private/streamrnn" "$ROOT/var/$1/private/streamrnn-"* "$ROOT/var/$1/streamrnn" "$ROOT/var/$1/streamrnn-"*
}

install_it() {
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        stop "Python 3.11 or newer is needed, and $python is not (PYTHON=/path/to/python3 names another)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || stop "$python cannot make virtual environments: apt-get install python3-venv"
    case $(readlink -f "$(command -v "$python")") in
    /root/* | /home/*) stop "$python is in a home directory, which the service cannot see: name another with PYTHON=/path/to/python3" ;;
    esac
    mkdir -p "$OPT" "$ETC" "$UNITS"
    [ -x "$OPT/venv/bin/pip" ] || "$python" -m venv --clear "$OPT/venv"
    # shellcheck disable=SC2086 # PIP_ARGS is several words
    "$OPT/venv/bin/pip" install --quiet --disable-pip-version-check --upgrade ${PIP_ARGS:-} "$HERE/.."
    if [ ! -e "$ETC/streamrnn.yaml" ]; then
        install -m 644 "$HERE/streamrnn.yaml" "$ETC/streamrnn.yaml"
        say "wrote $ETC/streamrnn.yaml: say there what to listen to"
    fi
    [ -e "$ETC/mqtt-password" ] || install -m 600 /dev/null "$ETC/mqtt-password"
    install -m 644 "$HERE/streamrnn.service" "$HERE/streamrnn@.service" "$UNITS/"
    if systemd; then
        systemctl daemon-reload
        for each in $(instances); do
            systemctl try-restart --no-block "$each"
        done
    fi
    say "installed $("$OPT/venv/bin/streamrnn" version | head -n 1)"
    say "check the configuration, which compiles kernels the first time: $OPT/venv/bin/streamrnn check $ETC/streamrnn.yaml"
    say "start it: systemctl enable --now streamrnn"
}

uninstall() {
    if systemd; then
        for each in $(instances); do
            systemctl disable --now "$each"
        done
    fi
    rm -f "$UNITS/streamrnn.service" "$UNITS/streamrnn@.service"
    rm -rf "$OPT/venv"
    remove_kept cache
    [ ! -d "$OPT" ] || rmdir --ignore-fail-on-non-empty "$OPT"
    ! systemd || systemctl daemon-reload
    say "uninstalled; $ETC and what is in $ROOT/var/lib/private (streamrnn, streamrnn-NAME) are left (purge takes them)"
}

[ -n "$ROOT" ] || [ "$(id -u)" -eq 0 ] || stop "run this as root"
case "$*" in
"") install_it ;;
uninstall) uninstall ;;
purge)
    uninstall
    rm -rf "$ETC"
    remove_kept lib
    say "purged"
    ;;
*) stop "usage: install.sh [uninstall | purge]" ;;
esac
