// Output through the debug console port 0xe9, and the end of the run through debug-exit 0xf4.
#include "lib/console.h"

#include "lib/interrupts.h"
#include "lib/io.h"

namespace guest {
namespace {

constexpr uint16_t kConsolePort = 0xe9;
constexpr uint16_t kExitPort = 0xf4;

void put_text(Text text) {
  for (size_t i = 0; i < text.size; ++i) {
    put(text.data[i]);
  }
}

void put_number(uint64_t value, unsigned base, int digits) {
  char buffer[20];
  int count = 0;
  do {
    buffer[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0 || count < digits);
  while (count > 0) {
    put(buffer[--count]);
  }
}

}  // namespace

void put(char c) {
  port_out<uint8_t>(kConsolePort, static_cast<uint8_t>(c));
}

void Argument::print() const {
  switch (kind_) {
    case Kind::Text: return put_text(text_);
    case Kind::Character: return put(static_cast<char>(number_));
    case Kind::Hex: return put_number(number_, 16, digits_);
    case Kind::Decimal:
      if (negative_) {
        put('-');
      }
      return put_number(number_, 10, digits_);
  }
}

void print_list(const char* format, std::initializer_list<Argument> values) {
  const Argument* next = values.begin();
  for (const char* p = format; *p != '\0'; ++p) {
    if (p[0] == '{' && p[1] == '}' && next != values.end()) {
      next->print();
      ++next;
      ++p;
    } else {
      put(*p);
    }
  }
}

void debug_exit(uint32_t code) {
  port_out<uint32_t>(kExitPort, code);
  // Only reached where there is no such port.
  for (;;) {
    halt_forever();
  }
}

void fail_list(const char* format, std::initializer_list<Argument> values) {
  print("FAIL: ");
  print_list(format, values);
  print("\n");
  debug_exit(kExitFailure);
}

}  // namespace guest
