#!/usr/bin/env bash
# Boots Linux guests, and checks what they found and how they ended.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tools/lib/common.sh
. "$top/tools/lib/common.sh"
# shellcheck source=tests/linux/lib/checks.sh
. "$here/lib/checks.sh"
# shellcheck source=tests/linux/lib/boot.sh
. "$here/lib/boot.sh"
# shellcheck source=tests/linux/lib/boots.sh
. "$here/lib/boots.sh"
export PATH=$PATH:/usr/sbin:/sbin

# The longest first, so that the two at a time end together.
boots=(memory disks shell quickstart initrd bzimage intx quickstart_fails no_acpi pic)

usage() {
  cat <<USAGE
usage: tests/linux/run.sh RINGLET [BOOT...]

Boots guests with the binary RINGLET, two at a time, and prints one line a check. Without BOOT all
of them: ${boots[*]}.
Makes the guest kernel and root file systems first. Consoles and disks are kept if a check fails.

  RINGLET_BOOT_LIMIT   seconds that a boot may take (now $boot_limit_s)
  CI=true              a missing /dev/kvm is a failure
USAGE
}
case ${1:-} in
  -h | --help) usage && exit 0 ;;
  '' | -*) die_usage "a ringlet binary is expected" ;;
esac
ringlet=$(realpath -- "$1")
[[ -x $ringlet ]] || die "cannot run '$1'"
(($# == 1)) || boots=("${@:2}")
for name in "${boots[@]}"; do
  declare -F "boot_$name" >/dev/null || die_usage "no boot '$name'"
done
if [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then
  echo "SKIPPED: no Linux guest was booted, /dev/kvm is missing or not ours to use"
  [[ ${CI:-} != true ]]
  exit
fi

mkdir -p "$top/build"
work=$(mktemp -d "$top/build/linux-tests.XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
today=$(date -u +%y%m%d)
kernel=$("$top/tools/guest-kernel/build")
shell_root=$work/shell-root.ext4
root=$work/root.ext4
g++ -std=c++20 -O2 -Wall -Wextra -Werror -static -o "$work/probe" "$here"/probe/*.cc
mkdir -p "$work/overlay/sbin"
cp "$work/probe" "$work/overlay/sbin/"
"$top/tools/rootfs" "$root" --overlay "$work/overlay"
"$top/tools/rootfs" "$shell_root"

# run_boot NAME: runs it, with the lines of its checks in a file.
run_boot() {
  local start=$SECONDS
  "boot_$1" >"$work/$1.checks"
  printf '%s\n' $((SECONDS - start)) >"$work/$1.seconds"
}

# count WORD NAME: how many checks of a boot came out as WORD.
count() { grep -c "^$1 " "$work/$2.checks" || true; }

# report NAME: prints the checks of a boot that has ended, and counts them.
report() {
  printf -- '-- %s: %s s\n' "$1" "$(cat "$work/$1.seconds" 2>/dev/null || echo '?')"
  cat "$work/$1.checks"
  checks_passed=$((checks_passed + $(count ok "$1")))
  checks_failed=$((checks_failed + $(count FAILED "$1")))
  [[ -e $work/$1.seconds ]] || failed "the checks of boot $1 ran to their end"
}

declare -A running=()
finish_one() {
  local pid
  wait -n -p pid "${!running[@]}" || true
  report "${running[$pid]}"
  unset "running[$pid]"
}
for name in "${boots[@]}"; do
  ((${#running[@]} < 2)) || finish_one
  (run_boot "$name") &
  running[$!]=$name
done
while ((${#running[@]})); do finish_one; done

if ((checks_failed)); then echo "consoles and disks are kept in $work"; else rm -rf "$work"; fi
finish_checks
