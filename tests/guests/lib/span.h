// Views of memory and text, as std::span and std::string_view, which need a hosted library.
#pragma once

#include <cstddef>
#include <cstdint>

namespace guest {

template <typename T>
struct Span {
  T* data = nullptr;
  size_t size = 0;

  constexpr Span() = default;
  constexpr Span(T* first, size_t count) : data(first), size(count) {}
  template <size_t N>
  constexpr Span(T (&array)[N]) : data(array), size(N) {}

  constexpr T& operator[](size_t i) const { return data[i]; }
  constexpr T* begin() const { return data; }
  constexpr T* end() const { return data + size; }
  constexpr Span first(size_t count) const { return {data, count}; }
};

struct Text {
  const char* data = "";
  size_t size = 0;

  constexpr Text() = default;
  constexpr Text(const char* text, size_t length) : data(text), size(length) {}
  constexpr Text(const char* text) : data(text) {
    while (text[size] != '\0') {
      ++size;
    }
  }

  constexpr bool operator==(Text other) const {
    if (size != other.size) {
      return false;
    }
    for (size_t i = 0; i < size; ++i) {
      if (data[i] != other.data[i]) {
        return false;
      }
    }
    return true;
  }
  constexpr Text drop(size_t count) const { return {data + count, size - count}; }
  constexpr bool starts_with(Text prefix) const {
    return size >= prefix.size && Text{data, prefix.size} == prefix;
  }
};

}  // namespace guest
