// What users get wrong: tables of inputs, each with the one line that ringlet answers.
#pragma once

#include <string>
#include <vector>

#include "tests/machine/run_ringlet.h"

namespace ringlet {

/// Arguments, perhaps with a file prepared for them, and what is said about them.
struct BadInput {
  Arguments arguments;
  std::string line;  ///< without "ringlet: "
  std::string file = {};
  std::string content = {};
};

std::vector<BadInput> bad_arguments();
std::vector<BadInput> bad_values();
std::vector<BadInput> bad_disks();
std::vector<BadInput> bad_cpuid();
std::vector<BadInput> bad_json();
std::vector<BadInput> bad_json_machines();
std::vector<BadInput> bad_files();
std::vector<BadInput> unreadable_files();
std::vector<BadInput> bad_kernels();
std::vector<BadInput> bad_boots();

/// A directory with one of everything that a file name can stand for:
///
///   vmlinux   an ELF kernel of a few pages      fifo, socket   just these, with nobody behind
///   disk.img  4096 bytes of data                loop           a link to itself
///   odd.img   1000 bytes                        dangling       a link to nothing
///   empty     no bytes                          secret         may be neither read nor written
///   big       1 GiB of nothing                  fixed.img      disk.img, may not be written
///   folder    a directory                       vm.json        the machine of vmlinux
class Workplace {
 public:
  Workplace();

  void prepare(const BadInput& input) const;
  /// All there is to see of every file but when it was last read; a line for each.
  std::string inventory() const;
  std::string path() const { return directory_.path(""); }

 private:
  TemporaryDirectory directory_;
};

}  // namespace ringlet
