// What a disk may hold: for each sector the contents that no acknowledgement has ruled out yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace ringlet {

/// Sectors are told apart by tags: each write has one of its own, from which the bytes of each of
/// its sectors follow. Tag 0 is all zeroes.
///
/// A write lives from when the driver made it available to when it saw its end: acknowledged,
/// failed or abandoned by a reset. Once it was acknowledged, contents of writes that had ended
/// before it began are gone; those of writes at the same time as it are not, nor is it certain that
/// a write that did not succeed left nothing. Times are the driver's, and only their order counts.
class DiskModel {
 public:
  using Tag = uint64_t;
  using Time = uint64_t;
  static constexpr Time kNever = UINT64_MAX;
  static constexpr size_t kSectorBytes = 512;
  static constexpr Tag kInitialTag = 1;

  struct Range {
    uint64_t sector = 0;
    uint64_t sectors = 0;
    Tag tag = 0;
    /// It is known to be on the disk when its request succeeded. A discard is not.
    bool certain = true;
  };

  explicit DiskModel(uint64_t sectors);

  uint64_t sectors() const { return history_.size(); }
  static void fill(std::span<std::byte> sector_bytes, uint64_t sector, Tag tag);

  size_t begin_write(const Range& range, Time now);
  /// `durable`: on stable storage as it is acknowledged.
  void end_write(size_t write, bool succeeded, bool durable, Time now);
  /// A flush was acknowledged that was made available at `begun`.
  void flushed(Time begun);

  /// Whether a read made available at `begun` may have found `bytes` (at most a sector) there. What
  /// it found rules out older contents for those that are made available from `now` on.
  bool check_read(uint64_t sector, std::span<const std::byte> bytes, Time begun, Time now);
  /// Whether the file may hold this now, and after a power cut.
  bool check_file(uint64_t sector, std::span<const std::byte> bytes) const;
  bool check_stable(uint64_t sector, std::span<const std::byte> bytes) const;

 private:
  struct Write {
    Range range;
    Time begun = 0;
    Time ended = kNever;
    bool succeeded = false;
    bool durable = false;
  };
  struct Version {
    size_t write = 0;
    Time gone = kNever;  // readers from then on do not find it
    bool gone_stable = false;
  };
  using History = std::vector<Version>;

  void make_durable(Write& write);
  void overwrite(History& history, Time begun, Time now);
  template <typename Possible>
  bool matches(uint64_t sector, std::span<const std::byte> bytes, const History& history,
               Possible&& possible) const;

  std::vector<Write> writes_;  // the first is what the disk was made with
  size_t first_volatile_ = 1;  // no write before it has yet to become durable
  std::vector<History> history_;
};

}  // namespace ringlet
