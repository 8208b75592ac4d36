// The I/O loop without a kernel: its files, and how data moves in and out of them.
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/fake/simulated_loop.h"

namespace ringlet {
namespace {

bool is_eventfd(int fd) {
  std::array<char, 64> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size() - 1);
  return length > 0 && std::string_view(target.data()).find("eventfd") != std::string_view::npos;
}

// Copies between a file's bytes and the parts of an operation, at most `limit` bytes.
template <typename Copy>
size_t for_each_part(std::span<const iovec> parts, size_t limit, Copy&& copy) {
  size_t done = 0;
  for (const iovec& part : parts) {
    const size_t count = std::min(part.iov_len, limit - done);
    if (count > 0) copy(static_cast<std::byte*>(part.iov_base), done, count);
    done += count;
  }
  return done;
}

}  // namespace

bool SimFile::readable() const {
  switch (kind) {
    case Kind::Bytes: return true;
    case Kind::Stream:
    case Kind::Packets: return !input.empty() || end_of_input;
    case Kind::Event: return count > 0;
    case Kind::Host: {
      if (host_is_eventfd && count > 0) return true;
      pollfd poll{.fd = host.get(), .events = POLLIN, .revents = 0};
      return ::poll(&poll, 1, 0) == 1;
    }
  }
  return false;
}

std::vector<std::byte> SimFile::written() const {
  std::vector<std::byte> all;
  for (const auto& piece : output) all.insert(all.end(), piece.begin(), piece.end());
  return all;
}

// --- the table --------------------------------------------------------------------------------

IoFile SimulatedLoop::enter(SimFile& file) {
  auto slot = std::ranges::find(slots_, nullptr);
  if (slot == slots_.end()) {
    if (slots_.size() >= options_.max_files) return {};
    slot = slots_.insert(slots_.end(), nullptr);
  }
  *slot = &file;
  return IoFile{static_cast<uint32_t>(slot - slots_.begin())};
}

IoFile SimulatedLoop::add(std::unique_ptr<SimFile> file) {
  files_.push_back(std::move(file));  // kept until the end: operations may outlive the slot
  return enter(*files_.back());
}

IoFile SimulatedLoop::add_same(IoFile file) {
  return enter(this->file(file));
}

SimFile& SimulatedLoop::file(IoFile file) {
  assert(file.slot < slots_.size() && slots_[file.slot] != nullptr && "not in the file table");
  return *slots_[file.slot];
}

IoFile SimulatedLoop::add_bytes(size_t size) {
  return add_bytes(std::vector<std::byte>(size));
}

IoFile SimulatedLoop::add_bytes(std::span<const std::byte> content) {
  auto file = std::make_unique<SimFile>();
  file->bytes.assign(content.begin(), content.end());
  file->stable = file->bytes;
  return add(std::move(file));
}

IoFile SimulatedLoop::add_stream() {
  auto file = std::make_unique<SimFile>();
  file->kind = SimFile::Kind::Stream;
  return add(std::move(file));
}

IoFile SimulatedLoop::add_packets() {
  auto file = std::make_unique<SimFile>();
  file->kind = SimFile::Kind::Packets;
  return add(std::move(file));
}

IoFile SimulatedLoop::add_event() {
  auto file = std::make_unique<SimFile>();
  file->kind = SimFile::Kind::Event;
  return add(std::move(file));
}

IoFile SimulatedLoop::add_file(int fd) noexcept {
  if (const auto found = stand_ins_.find(fd); found != stand_ins_.end()) return found->second;
  auto file = std::make_unique<SimFile>();
  file->kind = SimFile::Kind::Host;
  file->host_is_eventfd = options_.host_events_on_request || is_eventfd(fd);
  file->host.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!file->host) return {};
  hosts_[fd] = file.get();
  return add(std::move(file));
}

void SimulatedLoop::remove_file(IoFile file) noexcept {
  this->file(file);
  slots_[file.slot] = nullptr;
}

void SimulatedLoop::push_input(IoFile file, std::span<const std::byte> data) {
  SimFile& sim = this->file(file);
  sim.input.emplace_back(data.begin(), data.end());
  ++sim.arrivals;
}

void SimulatedLoop::push_input(IoFile file, std::string_view text) {
  push_input(file, std::as_bytes(std::span(text)));
}

void SimulatedLoop::push_end_of_input(IoFile file) {
  SimFile& sim = this->file(file);
  sim.end_of_input = true;
  ++sim.arrivals;
}

void SimulatedLoop::notify(IoFile file) {
  SimFile& sim = this->file(file);
  ++sim.count;
  ++sim.arrivals;
}

bool SimulatedLoop::notify_host(int fd) {
  const auto found = hosts_.find(fd);
  if (found == hosts_.end()) return false;
  ++found->second->count;
  ++found->second->arrivals;
  return true;
}

// A signal on a real eventfd wakes a poll once, as in the kernel, where nobody reads the counter.
// Here the counter is taken to notice the next signal.
void SimulatedLoop::absorb_host_events() {
  if (options_.host_events_on_request && !std::exchange(host_events_, false)) return;
  for (const Op& op : ops_) {
    if (op.kind != SimOp::Poll || op.file->kind != SimFile::Kind::Host) continue;
    uint64_t count = 0;
    if (::read(op.file->host.get(), &count, sizeof count) != sizeof count) continue;
    op.file->count += count;
    ++op.file->arrivals;
  }
}

// --- data -------------------------------------------------------------------------------------

int32_t SimulatedLoop::perform(Op& op) {
  switch (op.kind) {
    case SimOp::PollOnce: return 1;  // POLLIN
    case SimOp::Timeout: return -ETIME;
    case SimOp::Poll: return -ECANCELED;
    case SimOp::Read:
    case SimOp::Write:
    case SimOp::Flush:
    case SimOp::Allocate: break;
  }
  switch (op.file->kind) {
    case SimFile::Kind::Bytes: return perform_on_bytes(op);
    case SimFile::Kind::Stream:
    case SimFile::Kind::Packets:
    case SimFile::Kind::Event: return perform_on_stream(op);
    case SimFile::Kind::Host: return perform_on_host(op);
  }
  return -EINVAL;
}

int32_t SimulatedLoop::perform_on_bytes(Op& op) {
  if (op.kind == SimOp::Flush) return 0;
  if (op.kind == SimOp::Allocate) return perform_allocate(op);
  std::vector<std::byte>& bytes = op.file->bytes;
  const size_t offset = static_cast<size_t>(op.offset);
  const size_t wanted = std::min<size_t>(op.length, op.limit);
  if (op.kind == SimOp::Read) {
    const size_t there = offset < bytes.size() ? bytes.size() - offset : 0;
    const auto copy = [&](std::byte* part, size_t at, size_t count) {
      std::memcpy(part, bytes.data() + offset + at, count);
    };
    return static_cast<int32_t>(for_each_part(op.parts, std::min(wanted, there), copy));
  }
  if (wanted > 0 && bytes.size() < offset + wanted) bytes.resize(offset + wanted);
  const auto copy = [&](std::byte* part, size_t at, size_t count) {
    std::memcpy(bytes.data() + offset + at, part, count);
  };
  return static_cast<int32_t>(for_each_part(op.parts, wanted, copy));
}

int32_t SimulatedLoop::perform_allocate(Op& op) {
  std::vector<std::byte>& bytes = op.file->bytes;
  const size_t offset = static_cast<size_t>(op.offset);
  const size_t length = static_cast<size_t>(op.length);
  if (length == 0) return -EINVAL;
  const int kind = op.mode & ~FALLOC_FL_KEEP_SIZE;
  const bool zeroes = kind == FALLOC_FL_PUNCH_HOLE || kind == FALLOC_FL_ZERO_RANGE;
  if (kind != 0 && !zeroes) return -EOPNOTSUPP;
  if (kind == FALLOC_FL_PUNCH_HOLE && (op.mode & FALLOC_FL_KEEP_SIZE) == 0) return -EOPNOTSUPP;
  if ((op.mode & FALLOC_FL_KEEP_SIZE) == 0 && bytes.size() < offset + length) {
    bytes.resize(offset + length);
  }
  if (zeroes && offset < bytes.size()) {
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(offset),
                std::min(length, bytes.size() - offset), std::byte{0});
  }
  return 0;
}

int32_t SimulatedLoop::perform_on_stream(Op& op) {
  SimFile& file = *op.file;
  const size_t wanted = std::min<size_t>(op.length, op.limit);
  if (op.kind == SimOp::Write) {
    std::vector<std::byte> piece;
    const auto copy = [&](const std::byte* part, size_t, size_t count) {
      piece.insert(piece.end(), part, part + count);
    };
    const size_t count = for_each_part(op.parts, std::min(wanted, file.room), copy);
    if (file.room != SIZE_MAX) file.room -= count;
    file.output.push_back(std::move(piece));
    return static_cast<int32_t>(count);
  }
  if (op.kind != SimOp::Read) return -EINVAL;
  if (file.kind == SimFile::Kind::Event) {
    assert(op.length == sizeof file.count && op.parts.size() == 1);
    std::memcpy(op.parts[0].iov_base, &file.count, sizeof file.count);
    file.count = 0;
    return sizeof file.count;
  }
  if (file.input.empty()) return 0;  // end of file
  std::vector<std::byte>& next = file.input.front();
  const auto copy = [&](std::byte* part, size_t at, size_t count) {
    std::memcpy(part, next.data() + at, count);
  };
  const size_t count = for_each_part(op.parts, std::min(wanted, next.size()), copy);
  next.erase(next.begin(), next.begin() + static_cast<ptrdiff_t>(count));
  if (next.empty() || file.kind == SimFile::Kind::Packets) file.input.pop_front();
  return static_cast<int32_t>(count);
}

int32_t SimulatedLoop::perform_on_host(Op& op) {
  const int fd = op.file->host.get();
  const int parts = static_cast<int>(op.parts.size());
  const off_t offset = static_cast<off_t>(op.offset);
  ssize_t result = -1;
  switch (op.kind) {
    case SimOp::Read: result = ::preadv2(fd, op.parts.data(), parts, offset, 0); break;
    case SimOp::Write:
      result = ::pwritev2(fd, op.parts.data(), parts, offset, op.sync ? RWF_DSYNC : 0);
      break;
    case SimOp::Flush: result = ::fdatasync(fd); break;
    case SimOp::Allocate:
      result = ::fallocate(fd, op.mode, offset, static_cast<off_t>(op.length));
      break;
    case SimOp::Poll:
    case SimOp::PollOnce:
    case SimOp::Timeout: break;
  }
  return static_cast<int32_t>(result < 0 ? -errno : result);
}

// Accounts for what a power cut would leave, as an operation completes.
void SimulatedLoop::settle(Op& op) {
  if (op.file == nullptr || op.file->kind != SimFile::Kind::Bytes) return;
  SimFile& file = *op.file;
  const auto persist = [&file](uint64_t offset, uint64_t length) {
    file.stable.resize(file.bytes.size());
    if (offset >= file.bytes.size()) return;
    const size_t count = static_cast<size_t>(std::min(length, file.bytes.size() - offset));
    std::memcpy(file.stable.data() + offset, file.bytes.data() + offset, count);
  };
  if (op.kind == SimOp::Flush) {
    // Linux reports once that it could not write some pages, and may have dropped them.
    const bool lost = op.result < 0 && op.result != -EINTR && op.result != -EAGAIN;
    std::erase_if(file.unstable, [&](const SimFile::Unstable& range) {
      if (op.result < 0 && !lost) return false;
      if (range.sequence > op.sequence) return false;
      if (!lost) persist(range.offset, range.length);
      return true;
    });
  } else if (op.result < 0) {
    return;
  } else if (op.kind == SimOp::Write || op.kind == SimOp::Allocate) {
    ++writes_completed_;
    const auto length = op.kind == SimOp::Write ? static_cast<uint64_t>(op.result) : op.length;
    if (op.sync) {
      persist(op.offset, length);
    } else {
      file.unstable.push_back({op.offset, length, writes_completed_});
    }
  }
}

}  // namespace ringlet
