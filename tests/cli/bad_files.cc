// Bad inputs: files that are missing, of the wrong kind, without rights, or used twice.
#include "tests/cli/bad_input.h"

namespace ringlet {
namespace {

Arguments with(const Arguments& more) {
  Arguments arguments{"run", "--kernel", "vmlinux"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Arguments thirty_two_disks() {
  Arguments arguments{"run", "--kernel", "vmlinux"};
  for (int i = 0; i < 32; ++i) {
    arguments.insert(arguments.end(), {"--disk", "disk.img,readonly"});
  }
  return arguments;
}

std::string deep_path() {
  std::string path;
  for (int i = 0; i < 3000; ++i) path += "a/";
  return path;
}

}  // namespace

std::vector<BadInput> bad_files() {
  const std::string long_name(300, 'n');
  const std::string no_config = "--config '";
  return {
      {{"run", "--kernel", "none"}, "kernel 'none': cannot be opened: No such file or directory"},
      {{"run", "--kernel", "dangling"},
       "kernel 'dangling': cannot be opened: No such file or directory"},
      {{"run", "--kernel", "vmlinux/"}, "kernel 'vmlinux/': cannot be opened: Not a directory"},
      {{"run", "--kernel", "loop"},
       "kernel 'loop': cannot be opened: Too many levels of symbolic links"},
      {{"run", "--kernel", long_name},
       "kernel '" + std::string(255, 'n') + "'...: cannot be opened: File name too long"},
      {{"run", "--kernel", deep_path()},
       "kernel '" + deep_path().substr(0, 255) + "'...: cannot be opened: File name too long"},
      {{"run", "--kernel", "no\nsuch\x1b[2J"},
       "kernel 'no?such?[2J': cannot be opened: No such file or directory"},
      {{"run", "--kernel", "folder"}, "kernel 'folder': is a directory; expected a file"},
      {{"run", "--kernel", "fifo"}, "kernel 'fifo': is not a regular file; expected one"},
      {{"run", "--kernel", "socket"},
       "kernel 'socket': cannot be opened: No such device or address"},
      {{"run", "--kernel", "/dev/zero"}, "kernel '/dev/zero': is not a regular file; expected one"},
      {{"run", "--kernel", "empty"},
       "kernel 'empty': is empty; expected a file with something in it"},
      {with({"--initrd", "none"}), "initrd 'none': cannot be opened: No such file or directory"},
      {with({"--initrd", "folder"}), "initrd 'folder': is a directory; expected a file"},
      {with({"--initrd", "empty"}),
       "initrd 'empty': is empty; expected a file with something in it"},
      {with({"--initrd", "/dev/null"}), "initrd '/dev/null': is not a regular file; expected one"},
      {with({"--disk", "none"}), "disk 'none': cannot be opened: No such file or directory"},
      {with({"--disk", "loop"}),
       "disk 'loop': cannot be opened: Too many levels of symbolic links"},
      {with({"--disk", long_name}),
       "disk '" + std::string(255, 'n') + "'...: cannot be opened: File name too long"},
      {with({"--disk", "folder"}),
       "disk 'folder': is a directory; expected an image or a block device"},
      {with({"--disk", "fifo"}),
       "disk 'fifo': is a named pipe; expected an image or a block device"},
      {with({"--disk", "socket"}),
       "disk 'socket': is a socket; expected an image or a block device"},
      {with({"--disk", "/dev/null"}),
       "disk '/dev/null': is a character device; expected an image or a block device"},
      {with({"--disk", "empty"}), "disk 'empty': is empty; expected at least 512 bytes"},
      {with({"--disk", "odd.img"}),
       "disk 'odd.img': its size, 1000 bytes, is not a multiple of 512; expected a raw image"},
      {with({"--disk", "disk.img", "--disk", "./disk.img"}),
       "disk './disk.img': expected a file of its own, this is also disk 'disk.img'"},
      {with({"--disk", "disk.img", "--disk", "disk.img,readonly"}),
       "disk 'disk.img': expected a file of its own, this is also disk 'disk.img'"},
      {thirty_two_disks(), "devices: expected at most 31, got 32"},
      {with({"--serial", "folder"}), "serial 'folder': is a directory; expected a file for output"},
      {with({"--serial", "none/out"}),
       "serial 'none/out': cannot be opened for writing: No such file or directory"},
      {with({"--serial", "socket"}), "serial 'socket': is a socket; expected a file for output"},
      {with({"--serial", "vmlinux"}),
       "serial 'vmlinux': expected a file of its own, this is also kernel 'vmlinux'"},
      {with({"--disk", "disk.img,readonly", "--serial", "disk.img"}),
       "serial 'disk.img': expected a file of its own, this is also disk 'disk.img'"},
      {with({"--log-file", "folder"}),
       "log-file 'folder': is a directory; expected a file for output"},
      {with({"--log-file", "vmlinux/log"}),
       "log-file 'vmlinux/log': cannot be opened for writing: Not a directory"},
      {with({"--serial", "empty", "--log-file", "empty"}),
       "log-file 'empty': expected a file of its own, this is also serial 'empty'"},
      // What is fine by itself is neither created nor emptied.
      {with({"--serial", "disk.img", "--log-file", "new", "--disk", "none"}),
       "disk 'none': cannot be opened: No such file or directory"},
      {with({"--serial", "new", "--log-file", "new.log", "--initrd", "big"}),
       "initrd 'big': its 1073741824 bytes do not fit between the kernel's end at 0x201000 and "
       "0x10000000"},
      {{"run", "--config", ""}, "--config: expected a file name, got \"\""},
      {{"run", "--config", "none"}, no_config + "none': No such file or directory"},
      {{"run", "--config", "folder"}, no_config + "folder': Is a directory"},
      {{"run", "--config", "loop"}, no_config + "loop': Too many levels of symbolic links"},
      {{"run", "--config", "socket"}, no_config + "socket': No such device or address"},
      {{"run", "--config", "fifo"}, "fifo: expected a JSON object, got nothing"},
      {{"run", "--config", "/dev/zero"},
       no_config + "/dev/zero': expected less than 1 MiB of JSON"},
      {{"run", "--config", "big"}, no_config + "big': expected less than 1 MiB of JSON"},
      {{"run", "--config", "vm.json", "--config", "vm.json"}, "--config: given twice"},
  };
}

std::vector<BadInput> unreadable_files() {
  return {
      {{"run", "--kernel", "secret"}, "kernel 'secret': cannot be opened: Permission denied"},
      {with({"--initrd", "secret"}), "initrd 'secret': cannot be opened: Permission denied"},
      {{"run", "--config", "secret"}, "--config 'secret': Permission denied"},
      {with({"--disk", "fixed.img"}),
       "disk 'fixed.img': cannot be opened for writing: Permission denied; is 'readonly' missing?"},
      {with({"--serial", "fixed.img"}),
       "serial 'fixed.img': cannot be opened for writing: Permission denied"},
      {with({"--log-file", "secret"}),
       "log-file 'secret': cannot be opened for writing: Permission denied"},
  };
}

}  // namespace ringlet
