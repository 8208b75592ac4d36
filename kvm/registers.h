// Register files as tables: accesses of any width and alignment are cut into whole registers.
//
// A device states its registers once, in order, as {id, width in bytes, access}; offsets follow.
// A read that covers part of a register gets those bytes of its value; a write that covers part
// of one changes those bytes and leaves the rest as they read.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace ringlet {

enum class Access : uint8_t {
  ReadOnly,
  ReadWrite,
  Reserved,  ///< reads as zero, writes are ignored
};

template <typename Id>
struct Register {
  Id id;
  uint8_t width;  ///< 1 to 8 bytes
  Access access;
};

template <typename Id, size_t N>
class RegisterMap {
 public:
  constexpr explicit RegisterMap(const std::array<Register<Id>, N>& table) : table_(table) {
    size_t at = 0;
    for (size_t i = 0; i < N; ++i) {
      offsets_[i] = at;
      at += table[i].width;
    }
    size_ = at;
  }

  constexpr size_t size() const { return size_; }
  /// The offset of a register, for static_asserts against the specification's structures.
  constexpr size_t offset(Id id) const {
    for (size_t i = 0; i < N; ++i) {
      if (table_[i].id == id) return offsets_[i];
    }
    return size_;
  }

  /// Fills `data` from the registers at `offset`; `get(id)` returns a register's value. Bytes
  /// behind the last register are left as they came.
  template <typename Get>
  constexpr void read(uint64_t offset, std::span<std::byte> data, Get&& get) const {
    for_each(offset, data.size(), [&](const Register<Id>& reg, Piece piece) {
      const uint64_t value = reg.access == Access::Reserved ? 0 : get(reg.id);
      for (size_t i = 0; i < piece.count; ++i) {
        data[piece.in_data + i] = static_cast<std::byte>(value >> (8 * (piece.in_register + i)));
      }
    });
  }

  /// Hands the registers that `data` covers to `set(id, value)`; `get` supplies the bytes that a
  /// partial write leaves alone.
  template <typename Get, typename Set>
  constexpr void write(uint64_t offset, std::span<const std::byte> data, Get&& get,
                       Set&& set) const {
    for_each(offset, data.size(), [&](const Register<Id>& reg, Piece piece) {
      if (reg.access != Access::ReadWrite) return;
      uint64_t value = piece.count == reg.width ? 0 : get(reg.id);
      for (size_t i = 0; i < piece.count; ++i) {
        const unsigned shift = static_cast<unsigned>(8 * (piece.in_register + i));
        value &= ~(uint64_t{0xff} << shift);
        value |= std::to_integer<uint64_t>(data[piece.in_data + i]) << shift;
      }
      set(reg.id, value);
    });
  }

 private:
  struct Piece {
    size_t in_data;
    size_t in_register;
    size_t count;
  };

  template <typename Visit>
  constexpr void for_each(uint64_t offset, size_t length, Visit&& visit) const {
    if (offset >= size_) return;
    const size_t begin = static_cast<size_t>(offset);
    const size_t end = std::min(size_, begin + length);
    for (size_t i = 0; i < N; ++i) {
      const size_t first = std::max(begin, offsets_[i]);
      const size_t last = std::min(end, offsets_[i] + table_[i].width);
      if (first >= last) continue;
      visit(table_[i], Piece{first - begin, first - offsets_[i], last - first});
    }
  }

  std::array<Register<Id>, N> table_;
  std::array<size_t, N> offsets_{};
  size_t size_ = 0;
};

template <typename Id, size_t N>
RegisterMap(const std::array<Register<Id>, N>&) -> RegisterMap<Id, N>;

}  // namespace ringlet
