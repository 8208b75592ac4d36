// The file that is measured, and what of it is in the host's page cache.
#pragma once

#include <cstdint>
#include <string>

namespace ringlet::bench {

/// Makes a file of this size whose every block is written, unless it is there already.
/// Throws std::system_error.
void make_blk_file(const std::string& path, uint64_t bytes);

/// Writes back what is dirty, then reads all of the file into the page cache.
void warm_page_cache(const std::string& path);
/// Writes back what is dirty, then drops all of the file from the page cache.
void drop_page_cache(const std::string& path);

}  // namespace ringlet::bench
