// A virtio device in its slot: what the host opened for it, the device, its transport.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kvm/fd.h"
#include "virtio/device.h"
#include "virtio/pci_transport.h"

namespace ringlet {

/// Members in start-up order.
struct PciDevice {
  std::string name;       ///< for the log: its id, or its type and place
  std::string source;     ///< what the host gives for it, with its path: disk 'root.ext4'
  std::vector<Fd> files;  ///< open, and locked, as long as the device lives
  std::vector<std::unique_ptr<Device>> parts;  ///< one for each I/O loop that serves it
  std::unique_ptr<PciTransport> transport;
};

}  // namespace ringlet
