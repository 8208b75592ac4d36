# What the benchmarks share. Sourced by tools/bench/*, after common.sh and packages.sh.
# shellcheck shell=bash disable=SC2154

# build_bench TARGET...: installs what is missing, builds ringlet, the bare-metal guests and the
# TARGETs. Sets $build, and $work, which is removed at the end.
build_bench() {
  install_packages "${packages_build[@]}" "${packages_bench[@]}"
  build=$top/build/release
  work=$(mktemp -d "${TMPDIR:-/tmp}/ringlet-bench.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  (
    cd "$top"
    [[ -e build/release/build.ninja ]] || cmake --preset release
    cmake --build --preset release --target ringlet guests "$@"
  ) >"$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    die "cannot build the benchmark (the output is above)"
  }
}

# describe_host: what the figures were taken on.
describe_host() {
  local kvm=none module
  for module in kvm_intel kvm_amd kvm_pvm; do
    [[ -d /sys/module/$module ]] && kvm=$module
  done
  grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo || kvm+=' (no hardware virtualization)'
  echo "date:   $(date -u +%F)"
  echo "host:   $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, load$(
    cut -d ' ' -f 1-3 /proc/loadavg | sed 's/^/ /')"
  echo "kernel: $(uname -sr), KVM: $kvm"
  echo "qemu:   $(qemu-system-x86_64 --version | head -n 1)"
  echo "ringlet: $(git -C "$top" describe --always --dirty 2>/dev/null || echo unknown)"
}
