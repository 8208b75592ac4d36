# Counting checks: a line for each, and a line that sums them up. Sourced by tests/linux/*.
# shellcheck shell=bash

checks_passed=0
checks_failed=0

# passed NAME, failed NAME [REASON]: counts a check and tells of it.
passed() {
  checks_passed=$((checks_passed + 1))
  printf 'ok      %s\n' "$1"
}
failed() {
  checks_failed=$((checks_failed + 1))
  printf 'FAILED  %s%s\n' "$1" "${2:+: $2}"
}

# check NAME COMMAND...: passes if COMMAND succeeds.
check() {
  if "${@:2}"; then passed "$1"; else failed "$1"; fi
}

# same NAME ACTUAL EXPECTED: passes if the two are the same text.
same() {
  if [[ $2 == "$3" ]]; then passed "$1"; else failed "$1" "expected '$3', got '$2'"; fi
}

# finish_checks: prints the count and ends the script.
finish_checks() {
  printf '%s checks passed, %s failed\n' "$checks_passed" "$checks_failed"
  ((checks_failed == 0))
  exit
}
