#!/bin/sh
# Finds a suitable Python and hands over to environment.py, which makes or refreshes .venv.
# Usage: sh scripts/environment.sh          choose with PYTHON=/path/to/python
set -eu

here=$(cd "$(dirname "$0")" && pwd)
without_venv=""

# A name on the PATH proves nothing (version managers leave stubs there), so each candidate has to run.
suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || return 1
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 && return 0
    without_venv="$without_venv $1"
    return 1
}

if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    # The environment that is already here comes first: a newer Python on the machine is no reason to start over.
    set -- "$here/../.venv/bin/python" python3.13 python3.12 python3.11 python3
fi

for python in "$@"; do
    if suitable "$python"; then
        exec "$python" "$here/environment.py"
    fi
done

if [ -n "$without_venv" ]; then
    echo "crisscross: found$without_venv, but without the venv module;" \
        "on Debian and Ubuntu: apt install python3-venv" >&2
else
    echo "crisscross: needs Python 3.11 or newer with its venv module; tried: $*" \
        "(name another one with PYTHON=/path/to/python)" >&2
fi
exit 1
