// Common to all fuzz targets: what guests make the log say is of no interest, and takes time.
#include "kvm/log.h"

extern "C" int LLVMFuzzerInitialize(int* /*count*/, char*** /*arguments*/) {
  ringlet::log_setup(ringlet::LogLevel::Off, "");
  return 0;
}
