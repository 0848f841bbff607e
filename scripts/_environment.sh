# Sourced by the scripts: a virtual environment with the pinned packages, in $python. Quick when nothing changed.
# An active virtual environment is used as it is; else .venv is made.

set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

fail() { printf '%s\n' "$*" >&2; exit 1; }

# with_progress "what" command…: runs it, shows the seconds that pass, and its output only if it fails.
with_progress() {
    what=$1; shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 &
    job=$!
    seconds=0
    if [ -t 2 ]; then
        while kill -0 "$job" 2>/dev/null; do
            printf '\r%s … %ss' "$what" "$seconds" >&2
            sleep 1
            seconds=$((seconds + 1))
        done
        printf '\r' >&2
    else
        printf '%s …\n' "$what" >&2
    fi
    if wait "$job"; then
        [ ! -t 2 ] || printf '%s: done in %ss\n' "$what" "$seconds" >&2
        rm -f "$log"
    else
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "$what failed; the reason stands above."
    fi
}

make_environment() {
    if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
        environment=$VIRTUAL_ENV
    else
        environment=$root/.venv
        if [ ! -x "$environment/bin/pip" ]; then
            base=$(command -v python3) || fail "Python is missing: apt install python3 python3-venv"
            "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
                fail "Python 3.10 or newer is needed; $base is $("$base" -V)."
            "$base" -c 'import venv, ensurepip' 2>/dev/null ||
                fail "Python's venv module is missing: apt install python3-venv"
            rm -rf "$environment"
            with_progress "Making a virtual environment" "$base" -m venv "$environment"
        fi
    fi
    python=$environment/bin/python
}

# install_packages FILE…: pip install -r, skipped while the files are those of the last time.
install_packages() {
    for file in "$@"; do
        stamp=$environment/.installed-$file
        cmp -s "$file" "$stamp" && continue
        with_progress "Installing the packages of $file" \
            "$python" -m pip install --disable-pip-version-check -r "$file"
        cp "$file" "$stamp"
    done
}
