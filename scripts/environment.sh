# Sourced by quickstart and test: finds or makes the virtual environment and installs detloss in it, once.
# The environment is $DETLOSS_VENV when that is set, else .venv; `use_environment [EXTRAS]` sets $bin.

use_environment() {
  local extras="${1:-}" venv="${DETLOSS_VENV:-.venv}" want
  if [ ! -x "$venv/bin/python" ]; then
    echo "making $venv"
    "$(new_enough_python)" -m venv "$venv"
  fi
  bin="$(cd "$venv/bin" && pwd)"
  # The marker says which pyproject.toml of which checkout was installed; code is installed editable.
  want="$(cat pyproject.toml <(pwd) | "$bin/python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
  if [ -x "$bin/detloss" ] && [ "$(cat "$bin/../.detloss${extras:+-$extras}" 2>/dev/null)" = "$want" ]; then
    return
  fi
  install "$extras"
  echo "$want" >"$bin/../.detloss"
  if [ -n "$extras" ]; then echo "$want" >"$bin/../.detloss-$extras"; fi
}

install() {
  local extras="$1" isolation=()
  echo "installing detloss${extras:+[$extras]} in $(dirname "$bin")"
  "$bin/python" -m pip --version >/dev/null 2>&1 || "$bin/python" -m ensurepip --upgrade >/dev/null
  # With a setuptools that can build detloss at hand, nothing has to be downloaded for the build.
  if "$bin/python" -c 'import setuptools as s; raise SystemExit(int(s.__version__.split(".")[0]) < 77)' 2>/dev/null; then
    isolation=(--no-build-isolation)
  fi
  rm -f "$bin/../.detloss" "$bin/../.detloss-dev"
  "$bin/python" -m pip install --quiet "${isolation[@]}" -e ".${extras:+[$extras]}"
}

new_enough_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer found; install one, or set DETLOSS_VENV to an environment that has it" >&2
  return 1
}
