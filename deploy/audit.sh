#!/bin/sh
# Asks a public database (OSV) whether something installed in .venv has a known vulnerability. Called by the Makefile.
#
# A finding ends it with 1. Where the database cannot be asked, without the internet say, it ends with 0, and says in
# capitals that nothing was checked: a computer on its own must be able to check a change, and nobody must take
# silence for a good answer.
set -eu

VENV=${VENV:-.venv}

mkdir -p build
rm -f build/audit.json
"$VENV/bin/python" -m pip_audit --vulnerability-service osv --progress-spinner off --timeout 10 \
    --format json --output build/audit.json \
    --path "$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" 2>build/audit.log || true
exec "$VENV/bin/python" deploy/audited.py build/audit.json build/audit.log
