# The Debian 12 packages that ringlet needs, by what needs them. Sourced by tools/*.
# shellcheck shell=bash disable=SC2034

# To build ringlet.
packages_build=(g++ cmake ninja-build pkg-config
  liburing-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev catch2)

# To build the guest kernel (gcc and make come with packages_build's g++ and build-essential).
packages_kernel=(linux-source-6.12 build-essential flex bison bc libelf-dev lz4 xz-utils)

# To make a guest root file system.
packages_root=(busybox-static e2fsprogs)

# To compare with peers.
packages_bench=(qemu-system-x86 fio strace)

# To run every test, on top of the above.
packages_test=(qemu-system-x86 acpica-tools clang clang-format clang-tidy lld libclang-rt-14-dev
  git python3 shellcheck)
