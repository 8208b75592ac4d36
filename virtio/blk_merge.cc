// virtio-blk joins neighbours: transfers that follow each other, in a batch and on the disk, become
// one operation of the host.
//
// Nothing is sorted or searched: a request extends the run of those just before it, or ends it. So
// random requests cost a comparison, and a run waits no longer than its batch.
#include <linux/virtio_blk.h>

#include <algorithm>
#include <span>
#include <utility>

#include "virtio/blk.h"
#include "virtio/blk_request.h"
#include "virtio/queue.h"

namespace ringlet {

void Blk::collect(Request& request) noexcept {
  Lane& lane = lane_of(*request.chain);
  Run& run = lane.run;
  const IoFile file = file_for(request.parts, request.offset);
  const bool joins = run.first != nullptr && request.type == run.first->type &&
                     request.offset == run.first->offset + run.bytes && file == run.file &&
                     run.bytes + request.left <= kMaxRunBytes &&
                     run.parts + request.parts.size() <= kMaxRunParts;
  if (joins) {
    run.last->next = &request;
  } else {
    submit_run(lane);
    run.first = &request;
    run.file = file;
  }
  run.last = &request;
  run.bytes += request.left;
  run.parts += request.parts.size();
  ++run.requests;
  request.step = Request::Step::Joined;
}

void Blk::submit_run(Lane& lane) noexcept {
  if (lane.run.first == nullptr) return;
  const Run run = std::exchange(lane.run, {});
  Request& first = *run.first;
  if (run.first == run.last) return submit(first, first.parts, run.file);
  counters_.merged.fetch_add(run.requests - 1, std::memory_order_relaxed);
  // The first one's slot is taken until the operation is done, and so are its iovecs.
  const std::span joined(&lane.joined[kMaxRunParts * first.chain->slot()], run.parts);
  auto to = joined.begin();
  for (const Request* request = &first; request != nullptr; request = request->next) {
    to = std::ranges::copy(request->parts, to).out;
  }
  submit(first, joined, run.file);
}

/// They come home without any I/O. The reset that asks for it may be done with the last one.
void Blk::cancel_run(Lane& lane) noexcept {
  Request* request = std::exchange(lane.run, {}).first;
  while (request != nullptr) {
    Request& each = *request;
    request = std::exchange(each.next, nullptr);
    each.cancelled = true;
    finish(each, VIRTIO_BLK_S_IOERR);
  }
}

/// Gives each what it has a part in. What was not transferred as a whole is done again alone, so
/// that an error reaches only the request that it concerns.
void Blk::joined_done(Request& first, int32_t result) noexcept {
  uint64_t bytes = result > 0 ? static_cast<uint64_t>(result) : 0;
  Request* request = &first;
  while (request != nullptr) {
    Request& each = *request;
    request = std::exchange(each.next, nullptr);
    if (each.cancelled) {
      finish(each, VIRTIO_BLK_S_IOERR);
    } else if (bytes >= each.left) {
      bytes -= each.left;
      each.transferred = each.left;
      finish(each, VIRTIO_BLK_S_OK);
    } else {
      bytes = 0;
      submit_transfer(each);
    }
  }
}

}  // namespace ringlet
