# What the scripts in tools/ share: messages, installing what is missing. To be sourced.
# shellcheck shell=bash

# The user's cache folder of ringlet: guest kernels and other results that take long to make.
cache_dir() { printf '%s/ringlet\n' "${XDG_CACHE_HOME:-$HOME/.cache}"; }

# say MESSAGE: tells the user on standard error, under the name $program or else the script's own.
say() { printf '%s: %s\n' "${program:-${0##*/}}" "$*" >&2; }

# die MESSAGE: ends the script with $failure_status, 1 unless it is set.
die() {
  say "$*"
  exit "${failure_status:-1}"
}

# die_usage MESSAGE: the same for a wrong command line.
die_usage() {
  say "$*; see --help"
  exit 2
}

# missing_packages PACKAGE...: prints those that are not installed.
missing_packages() {
  local package
  local -A installed=()
  while read -r package; do installed[$package]=1; done < <(
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
      sed -n 's/^installed //p')
  for package; do [[ ${installed[$package]:-} ]] || printf '%s\n' "$package"; done
}

# install_packages PACKAGE...: installs those that are missing, with sudo where that is needed.
install_packages() {
  command -v dpkg-query >/dev/null || die "not a Debian system; install by hand: $*"
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "missing packages; as root, run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "cannot install ${missing[*]} (the last lines of apt-get's output are above)"
  fi
  rm -f "$log"
}
