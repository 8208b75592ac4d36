# Job disks: how a script gets into a guest and its exit status out (see tools/rootfs --help).
# Sourced by tools/quickstart and the boot tests.
# shellcheck shell=bash

job_header_bytes=4096
job_sector_bytes=512

# write_job FILE: makes FILE a job disk of the script on standard input.
write_job() {
  local bytes
  { printf '#%*s\n' $((job_header_bytes - 2)) '' && cat; } >"$1"
  bytes=$(stat -c %s "$1")
  printf '%*s' $((-bytes & (job_sector_bytes - 1))) '' | tr ' ' '\n' >>"$1"
}

# job_status FILE: prints the exit status that the guest left on its job disk; fails if none.
job_status() {
  local word status
  read -r word status <"$1"
  [[ $word == status ]] && printf '%s\n' "$status"
}
