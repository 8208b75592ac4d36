#!/usr/bin/env bash
# Runs the same bare-metal guests under ringlet and under QEMU: what they print, what is on their
# disks afterwards and how they end must be the same, byte for byte.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tools/lib/common.sh
. "$top/tools/lib/common.sh"
# shellcheck source=tests/linux/lib/checks.sh
. "$here/lib/checks.sh"

limit_s=${RINGLET_GUEST_LIMIT:-600}

usage() {
  cat <<USAGE
usage: tests/linux/same_as_qemu.sh BUILD

Compares the machine of BUILD/ringlet with QEMU's, one line for each guest and set of options.
Outputs and disks are kept if a check fails.

  RINGLET_GUEST_LIMIT  seconds that a guest may take (now $limit_s)
  CI=true              a missing /dev/kvm or QEMU is a failure
USAGE
}
case ${1:-} in
  -h | --help) usage && exit 0 ;;
  '' | -*) die_usage "a build folder is expected" ;;
esac
(($# == 1)) || die_usage "one build folder is expected"
[[ -x $1/ringlet ]] || die "no '$1/ringlet'; build it first"
[[ -e $1/tests/guests/blk ]] || die "no '$1/tests/guests/blk'; build the target 'guests' first"
ringlet=$(realpath -- "$1/ringlet")
guests=$(realpath -- "$1/tests/guests")

skip() {
  echo "SKIPPED: nothing was compared with QEMU, $1"
  [[ ${CI:-} != true ]]
  exit
}
[[ -r /dev/kvm && -w /dev/kvm ]] || skip "/dev/kvm is missing or not ours to use"
command -v qemu-system-x86_64 >/dev/null || skip "qemu-system-x86_64 is not installed"

mkdir -p "$top/build"
work=$(mktemp -d "$top/build/qemu-tests.XXXXXX")

# Disks whose bytes look random and are the same every time; each run gets fresh copies.
python3 - "$work" <<'PYTHON'
import random, sys
for index in range(2):
    with open(f"{sys.argv[1]}/disk{index}", "wb") as disk:
        disk.write(random.Random(index).randbytes((16 + index) << 20))
PYTHON

# The options of a comparison are words that both machines are made from:
#   cpus=N  disk[,OPTION...]   options of a disk in ringlet's spelling; packed: QEMU offers packed
#                              queues only when it is told to
ringlet_options() {
  local word index=0
  for word; do
    word=${word/,packed/}
    case $word in
      cpus=*) printf '%s\n' --cpus "${word#cpus=}" ;;
      disk*) printf '%s\n' --disk "path=$work/ringlet.disk$((index++))${word#disk}" ;;
    esac
  done
}

qemu_options() {
  local word index=0 option drive device
  for word; do
    case $word in
      cpus=*) printf '%s\n' -smp "${word#cpus=}" ;;
      disk*)
        drive=file=$work/qemu.disk$index,format=raw,if=none,id=drive$index,discard=unmap
        device=virtio-blk-pci,disable-legacy=on,drive=drive$index
        for option in ${word//,/ }; do
          case $option in
            readonly) drive+=,readonly=on ;;
            direct) drive+=,cache.direct=on ;;
            queues=*) device+=,num-$option ;;
            packed) device+=,packed=on ;;
            discard=*) device+=,$option,write-zeroes=${option#*=} ;;
            queue-size=* | serial=*) device+=,$option ;;
            writeback=*) device+=,write-cache=${option#*=} ;;
          esac
        done
        printf '%s\n' -drive "$drive" -device "$device"
        index=$((index + 1))
        ;;
    esac
  done
}

# run MACHINE COMMAND...: leaves its output, its log and its exit status in files of that name.
run() {
  local machine=$1 status=0
  timeout --signal=KILL "$limit_s" "${@:2}" \
    >"$work/$machine.output" 2>"$work/$machine.log" </dev/null || status=$?
  echo "exit status $status" >>"$work/$machine.output"
}

# compare NAME STATUS GUEST COMMAND_LINE WORD...: runs GUEST under both, with fresh disks. Both have
# to end with exit status STATUS.
compare() {
  local name=$1 status=$2 kernel=$guests/$3 command_line=$4 index machine options
  shift 4
  for machine in ringlet qemu; do
    for index in 0 1; do cp "$work/disk$index" "$work/$machine.disk$index"; done
  done
  mapfile -t options < <(ringlet_options "$@")
  run ringlet "$ringlet" run --kernel "$kernel" --cmdline "$command_line" --memory 128M \
    --debug-console 0xe9 --debug-exit 0xf4 "${options[@]}"
  mapfile -t options < <(qemu_options "$@")
  run qemu qemu-system-x86_64 -accel kvm -cpu host,-arch-capabilities -M q35 -nodefaults \
    -no-user-config -display none -m 128 -kernel "$kernel" -append "$command_line" \
    -device isa-debugcon,iobase=0xe9,chardev=console -chardev stdio,id=console \
    -device isa-debug-exit,iobase=0xf4,iosize=4 "${options[@]}"
  judge "$name" "$status"
}

# judge NAME STATUS: one check about the two machines that ran last.
judge() {
  local machine index reason=
  if ! cmp -s "$work/ringlet.output" "$work/qemu.output"; then
    reason='the outputs differ'
  elif ! grep -qx "exit status $2" "$work/ringlet.output"; then
    reason="both end with $(tail -n 1 "$work/ringlet.output"), expected $2"
  fi
  for index in 0 1; do
    cmp -s "$work/ringlet.disk$index" "$work/qemu.disk$index" ||
      reason+="${reason:+, }disk $index differs"
  done
  if [[ ! $reason ]]; then
    passed "$1"
    return
  fi
  failed "$1" "$reason"
  diff -u "$work/ringlet.output" "$work/qemu.output" | head -n 40 || true
  tail -n 5 "$work/ringlet.log" "$work/qemu.log"
  mkdir -p "$work/failed.$checks_failed"
  mv "$work"/{ringlet,qemu}.* "$work/failed.$checks_failed"
}

# The long one first. Its requests are more than a 16-bit ring index counts.
compare 'blk: every request, framing and way of completion' 1 blk '' disk
compare 'blk: a serial number' 1 blk requests=100 disk,serial=a-serial-number-at20
compare 'blk: four queues' 1 blk 'queues=4 requests=100' disk,queues=4 cpus=2
compare 'blk: long queues' 1 blk requests=100 disk,queue-size=1024
compare 'blk: read-only' 1 blk requests=100 disk,readonly
compare 'blk: past the page cache' 1 blk requests=100 disk,direct
compare 'blk: write-through' 1 blk requests=100 disk,writeback=off
compare 'blk: without DISCARD' 1 blk requests=100 disk,discard=off
compare 'blk: the second of two disks' 1 blk 'index=1 requests=100' disk disk
compare 'blk: a disk that is not there' 3 blk index=2 disk disk
compare 'blk: packed queues' 1 blk 'packed=1 requests=20000' disk,packed
compare 'resets: of a busy device' 1 resets 'n=100 kind=device queues=2' disk,queues=2
compare 'resets: packed queues' 1 resets 'n=100 kind=device packed=1' disk,packed
compare 'smp: four processors' 1 smp '' cpus=4
compare 'legacy: string instructions' 1 legacy what=string
compare 'legacy: ports that belong to nobody' 1 legacy what=ports
compare 'hello: any exit status' 11 hello code=5

if ((checks_failed)); then echo "outputs and disks are kept in $work"; else rm -rf "$work"; fi
finish_checks
