// Opening an io_uring: with what this kernel offers, and allowed to do no more than is needed.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include <liburing.h>

namespace ringlet {

inline constexpr uint64_t kNsPerSecond = 1'000'000'000;

/// What a kernel may lack without the loop failing: each is asked for once, when a ring is opened.
/// A test that wants to see an older kernel's path forbids some.
struct UringFeatures {
  bool share_buffers = true;  ///< 6.12: memory registered with one ring serves others
  bool min_wait = true;       ///< 6.12: to sleep for several completions, but not for long
  bool single_issuer = true;  ///< 6.0: cheaper locking, as only one thread submits
  bool coop_taskrun = true;   ///< 5.19: completions do not interrupt the loop's thread
  bool submit_all = true;     ///< 5.18: a batch goes on after a request that is refused
  bool cqe_skip = true;       ///< 5.17: no completion for signals that went well
  bool sparse_files = true;   ///< 5.19: an empty file table; with it cancel-any and fixed-only
  bool cancel_any = true;     ///< 5.19: everything under way is cancelled by one request
  bool restrictions = true;   ///< 5.10: requests the loop never makes are refused
  bool fixed_only = true;     ///< 5.19: so are requests on files outside the table
  bool worker_limit = true;   ///< 5.15: the kernel's helper threads are bounded
};

struct UringOptions {
  /// Requests in one batch; a fuller one is submitted in pieces. A power of two.
  uint32_t sq_entries = 256;
  /// Completions that may wait. More are kept by the kernel, more slowly (IORING_FEAT_NODROP).
  uint32_t cq_entries = 4096;
  /// Slots in the file table; RLIMIT_NOFILE bounds it too.
  uint32_t files = 4096;
  /// Kernel threads for file I/O that would block, and for what may block forever.
  uint32_t bounded_workers = 16;
  uint32_t unbounded_workers = 8;
  /// For how long the loop at most looks around for work before it sleeps; 0: not at all.
  uint64_t poll_ns = 0;
  UringFeatures allow{};
};

/// An io_uring that is set up but disabled. Any thread may open it; from enable() on it belongs
/// to the thread that called it.
class UringRing {
 public:
  /// Throws std::system_error; where io_uring is switched off the message names the switch.
  explicit UringRing(const UringOptions& options);
  ~UringRing();
  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;

  io_uring& ring() { return ring_; }
  const UringFeatures& features() const { return features_; }
  uint32_t files() const { return files_; }
  /// Pins `buffers`, each of which must be memory of ours, and makes them the ring's table of
  /// buffers. Once, before enable(). Throws std::system_error.
  void register_buffers(std::span<const iovec> buffers);
  /// Takes over the table of `other`, whose memory is not pinned once more. False where the kernel
  /// cannot. Before enable() of both.
  bool share_buffers_of(const UringRing& other);
  /// Puts the restrictions into force and lets this thread submit. Throws std::system_error.
  void enable();

  /// Submits what there is, and sleeps until there are `completions`, or at least one once
  /// `patience_us` are over. Needs features().min_wait. Answers as io_uring_submit_and_wait() does,
  /// or -ETIME after a second without any.
  int submit_and_wait_for(unsigned completions, uint32_t patience_us);

 private:
  bool try_open(const UringOptions& options, uint32_t flags);
  void open(const UringOptions& options);
  void add_file_table(const UringOptions& options);
  void restrict_to_needs();

  io_uring ring_{};
  UringFeatures features_;
  uint32_t files_ = 0;
};

}  // namespace ringlet
