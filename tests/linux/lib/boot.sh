# Booting test guests and looking at what they told. Sourced by tests/linux/run.sh.
# It wants $ringlet, $kernel, $root and $work, and runs in a subshell for each boot.
# shellcheck shell=bash disable=SC2154

# How long a boot may take. It takes half a minute of processor time where guest kernels are
# emulated, and far more of the clock where others want the processors as well.
boot_limit_s=${RINGLET_BOOT_LIMIT:-600}

# For guests on busy hosts: no reports of processors that got no time. Init's environment keeps the
# C library from using wide registers: where KVM runs without hardware virtualization programs may
# find them, though the guest's kernel does not keep them, and an interrupt clears their upper
# halves.
common_cmdline='console=ttyS0 quiet rcupdate.rcu_cpu_stall_suppress=1'
common_cmdline+=' GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX,-AVX2,-AVX512F'

# with_limit COMMAND...: runs it, and kills it when the limit is reached.
with_limit() { timeout --foreground --kill-after=5 "$boot_limit_s" "$@"; }

# boot NAME CMDLINE STEPS [OPTION]...: boots the probe from a shared read-only root. Sets $status
# to ringlet's exit status and $out to a file of what the guest's console showed.
boot() {
  out=$work/$1.out
  status=0
  with_limit "$ringlet" run --kernel "$kernel" --disk "path=$root,readonly,serial=root" \
    --cmdline "$common_cmdline $2 init=/sbin/probe -- $3" "${@:4}" \
    </dev/null >"$out.raw" 2>"$work/$1.err" || status=$?
  tr -d '\r' <"$out.raw" >"$out"
}

# tells NAME PATTERN: a whole line of the console matches.
tells() {
  if grep -qxE -- "$2" "$out"; then passed "$1"; else failed "$1" "no line '$2' in $out"; fi
}

# tells_not NAME PATTERN: no part of a line matches.
tells_not() {
  local line
  if line=$(grep -m 1 -E -- "$2" "$out"); then failed "$1" "'$line'"; else passed "$1"; fi
}

# ends NAME STATUS: the machine ended so, and ringlet had nothing to complain about.
ends() {
  same "$1" "$status" "$2"
  same "$1: nothing on standard error" "$(cat "${out%.out}.err")" ''
}

# make_disk FILE: a file system with a file that the guest reads. Boots run side by side.
make_disk() {
  mkdir "$1.tree"
  echo 'made by the host' >"$1.tree/from-host"
  mke2fs -q -t ext4 -d "$1.tree" "$1" 16M >/dev/null
}

# make_initrd: an initial RAM disk that holds the probe as /init.
make_initrd() {
  local tree
  tree=$(mktemp -d "$work/initrd.XXXXXX")
  cp "$work/probe" "$tree/init"
  (cd "$tree" && echo init | busybox cpio -o -H newc 2>/dev/null) >"$tree.cpio"
  mv "$tree.cpio" "$work/initrd.cpio"
}

# file_system_is_clean FILE: nothing to repair, and it was unmounted.
file_system_is_clean() {
  e2fsck -fn "$1" >"$1.e2fsck" 2>&1 &&
    dumpe2fs -h "$1" 2>/dev/null | grep -qx 'Filesystem state: *clean'
}

# written_by_guest FILE: the file that the probe writes is there, and it is right.
written_by_guest() {
  debugfs -R "dump from-guest $1.from-guest" "$1" 2>/dev/null && cmp -s "$1.from-guest" <(seq 20000)
}

allocated_kib() { echo $(($(stat -c '%b' "$1") / 2)); }

# Messages of level "warning" that say nothing about the machine.
known_messages=(
  # The guest's kernel has no frequency scaling.
  'Warning: Processor Platform Limit event detected, but not handled\.'
  'Consider compiling CPUfreq support into your kernel\.'
  # Of the processor, and of what KVM makes of its registers.
  "\[Firmware Bug\]: TSC doesn't count with P0 frequency!"
  'RDSEED32 is broken\. Disabling the corresponding CPUID bit\.'
  '.*(Spectre|Speculat|RETBleed|MDS|TAA|L1TF|MMIO Stale Data|SRBDS|Register File).*'
  # Of a busy host.
  'hrtimer: interrupt took [0-9]+ ns'
  'sched: DL replenish lagged too much'
  'clocksource: timekeeping watchdog on CPU[0-9]+: .*(retried|excessive read-back delay).*'
)

# kernel_is_content NAME: Linux warns of nothing, and above all not of resources.
kernel_is_content() {
  local unknown
  tells "$1: the kernel's messages were read" 'messages end'
  unknown=$(sed -n 's/^message //p' "$out" |
    grep -vxE "$(IFS='|' && echo "${known_messages[*]}")" | head -n 3) || true
  same "$1: no warning from the kernel" "$unknown" ''
}
