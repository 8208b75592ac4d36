// The probe: process 1 of most test guests. It does the steps named as its arguments, tells on the
// console what it finds, a line for each fact, and leaves it to the host to judge.
//
// Starting a program takes a second or more in an emulated guest, so it is all one program.
#pragma once

#include <string>
#include <vector>

/// Prints one line: the words of a fact, printf-like.
void tell(const char* format, ...) __attribute__((format(printf, 1, 2)));
/// Tells that `what` failed, with errno.
void tell_error(const std::string& what);

/// The first line of a small file, or "" if it cannot be read.
std::string read_line(const std::string& path);
/// All of a file, as far as it can be read.
std::string read_all(const std::string& path);
/// The names in a folder without "." and "..", sorted; empty if there is no such folder.
std::vector<std::string> list(const std::string& path);
/// The name, such as "vdb", of the disk with this serial number, or "".
std::string disk_of(const std::string& serial);

// Steps. `argument` is what follows the ':' of the step's name.

void tell_system(const std::string& argument);
void tell_messages(const std::string& argument);
void tell_interrupts(const std::string& argument);
void tell_pci(const std::string& argument);
void tell_bar(const std::string& argument);
void tell_ports(const std::string& argument);
void tell_disks(const std::string& argument);
void use_files(const std::string& serial);
void keep_files(const std::string& serial);
void try_readonly(const std::string& serial);
void try_discard(const std::string& serial);
