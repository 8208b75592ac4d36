#!/usr/bin/env bash
# Checks that the release binary is built as hardened as its build flags ask for.
# shellcheck disable=SC2317 # functions are called by "check"
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/lib/common.sh
. "$here/../../tools/lib/common.sh"
# shellcheck source=tests/linux/lib/checks.sh
. "$here/lib/checks.sh"

usage() {
  cat <<USAGE
usage: tests/linux/hardening.sh BINARY

Reads BINARY with readelf and objdump, prints one line a check and exits 1 when one has failed.
USAGE
}
case ${1:-} in
  -h | --help) usage && exit 0 ;;
  '' | -*) die_usage "a binary is expected" ;;
esac
binary=$1
[[ -r $binary ]] || die "cannot read '$binary'"

elf=$(readelf --wide --file-header --program-headers --dynamic "$binary")
segments=$(sed -n '/^Program Headers/,/^ Section to/p' <<<"$elf")

# has PATTERN: a line of readelf's report matches.
has() { grep -qE "$1" <<<"$elf"; }
lacks() { ! has "$1"; }
segment_lacks() { ! grep -qE "$1" <<<"$segments"; }

check "position-independent executable" has '^ +Type: +DYN \(Position-Independent'
check "static: no interpreter" lacks '^ +INTERP '
check "static: no shared library needed" lacks '\(NEEDED\)'
check "relocations are read-only after start" has '^ +GNU_RELRO '
check "every symbol is bound at start" has 'BIND_NOW|Flags: .*NOW'
check "the stack is not executable" has '^ +GNU_STACK .* RW +0x'
check "no segment is both writable and executable" segment_lacks ' (RWE|WE) '
check "no text relocations" lacks 'TEXTREL'

# What functions compiled with our flags call: our own and those of libraries that are headers.
# The C library's archive is in the binary too, so it says nothing that a symbol exists.
calls=$(objdump --disassemble --no-show-raw-insn "$binary" | awk '
  /^[0-9a-f]+ </ { ours = $2 ~ /7ringlet|3fmt|6spdlog|8nlohmann/; next }
  ours && /call .*<(__stack_chk_fail|_*[a-z]+_chk|__assert_fail|_ZSt21__glibcxx_assert_fail)/ {
    sub(/.*</, ""); print
  }')
calls_to() { grep -qE "$1" <<<"$calls"; }
check "functions check their stack canary" calls_to '^__stack_chk_fail'
check "string functions check sizes (_FORTIFY_SOURCE)" calls_to '^_*(mem|str|v?sn?|v?f)[a-z]+_chk'
check "asserts are on" calls_to '^__assert_fail'
check "the C++ library checks indices" calls_to '^_ZSt21__glibcxx_assert_fail'

# The marker of the whole binary is missing as long as the C library's archive lacks it.
starts_with_endbr() {
  objdump --disassemble=main --no-show-raw-insn "$binary" | grep -A 1 '<main>:$' | grep -q endbr64
}
check "functions begin with landing pads for indirect branches" starts_with_endbr

finish_checks
