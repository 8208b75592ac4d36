// What the disk benchmark measures: loads, and the command lines that put them on a disk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/bench/vm_process.h"

namespace ringlet::bench {

/// One load on the disk, or what a single access of the guest to the machine costs.
struct BlkCase {
  bool direct = false;  ///< past the host's page cache
  bool random = true;
  bool write = false;
  uint32_t block_bytes = 4096;
  uint32_t depth = 1;
  std::string access = "";  ///< as the guest calls it, such as "kick"; empty: a load

  /// "direct randread 4k depth 32" or "access kick"
  std::string name() const;
  /// As fio and the guest call it: "randread".
  std::string what() const;
  bool is_load() const { return access.empty(); }
  /// "direct", "cached" or "access": what one machine can do in turn.
  std::string group() const;
};

/// Every case, or those whose names contain one of `filters`, by group.
std::vector<std::vector<BlkCase>> blk_cases(const std::vector<std::string>& filters);

enum class PartyKind { Ringlet, Qemu, Fio };

/// One that does the same load as the others: a VMM with the guest, or fio on the host.
struct Party {
  std::string name;
  PartyKind kind = PartyKind::Fio;
  std::string binary;
  std::string aio = "";      ///< of QEMU
  Command more = {};         ///< arguments of ringlet, beside those that all have
  bool beside_spin = false;  ///< another thread spins meanwhile, as the vCPU of a guest that polls

  bool is_named(const std::string& text) const { return name.find(text) != std::string::npos; }
  /// Whether there is something to measure.
  bool takes(const BlkCase& load) const;
};

struct BlkSetup {
  std::string ringlet;
  std::string also;        ///< another ringlet to compare with; empty: none
  std::string guest;       ///< a kernel
  std::string linux_root;  ///< the root of Linux with fio, see blk_init; empty: a bare-metal guest
  std::string file;
  Command also_args;  ///< what it has beside those of ringlet
  Command ringlet_args;
  std::string ringlet_disk;  ///< appended to ringlet's --disk
  bool qemu_polls = true;
  double seconds = 1;
  std::string wait = "poll";  ///< bare-metal guests only
  uint32_t queues = 1;
  uint32_t queue_size = 256;
  uint64_t write_bytes = uint64_t{64} << 20;  ///< the region that writes go to
};

/// The first is ringlet, then its peers, then fio. Ringlet with registered memory is among them
/// where this user may pin as much.
std::vector<Party> blk_parties(const BlkSetup& setup);

/// A machine that does these loads one after another. All of one group.
Command machine_command(const Party& party, const BlkSetup& setup,
                        const std::vector<BlkCase>& loads);
Command fio_command(const Party& party, const BlkSetup& setup, const BlkCase& load);

}  // namespace ringlet::bench
