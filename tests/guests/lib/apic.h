// Local APIC (memory-mapped or x2APIC, as the machine starts it) and I/O APIC.
#pragma once

#include <cstdint>

namespace guest::apic {

// Vectors used by the library; guests take others from 0x60 on.
inline constexpr uint8_t kWatchdogVector = 0x50;
inline constexpr uint8_t kSpuriousVector = 0xff;

// Register numbers: the offset in the memory-mapped page divided by 16.
enum class Register : uint32_t {
  Id = 0x02,
  EndOfInterrupt = 0x0b,
  SpuriousVector = 0x0f,
  CommandLow = 0x30,
  CommandHigh = 0x31,
  TimerVector = 0x32,
  InitialCount = 0x38,
  CurrentCount = 0x39,
  DivideConfiguration = 0x3e,
};

// Turns this CPU's local APIC on. Call once per CPU.
void enable();

// For code that runs in ring 0 already, such as interrupt handlers.
void enable_ring0();
uint32_t id_ring0();
uint32_t read_ring0(Register reg);
void write_ring0(Register reg, uint32_t value);
void send_command_ring0(uint32_t destination, uint32_t command);
void end_of_interrupt();

uint32_t id();
void write(Register reg, uint32_t value);
uint32_t read(Register reg);

// Sends an interrupt command (Intel SDM volume 3, 11.6.1) to the CPU with this APIC id.
void send_command(uint32_t destination, uint32_t command);

// Values of DivideConfiguration (Intel SDM volume 3, 11.5.4).
constexpr uint32_t kDivideBy1 = 0xb;
constexpr uint32_t kDivideBy128 = 0xa;

// Raises the vector once, after that many ticks of the timer. Forgets what it was set to before.
void start_timer_ring0(uint32_t divide, uint8_t vector, uint32_t ticks);

// Switches every CPU that calls enable() from now on to x2APIC mode.
void choose_x2apic();

// Ends the run with "FAIL: no WHAT ..." unless stopped within about half a minute.
void start_watchdog(const char* what);
void stop_watchdog();

// MSI message that reaches this vector on the CPU with this APIC id.
constexpr uint64_t msi_address(uint32_t apic_id) {
  return 0xfee00000 | uint64_t{apic_id} << 12;
}
constexpr uint32_t msi_data(uint8_t vector) {
  return vector;
}

enum class Trigger { Edge, Level };
// Routes an I/O APIC pin to a vector on the CPU with APIC id 0, and unmasks it.
void route_pin(uint32_t pin, uint8_t vector, Trigger trigger);
void mask_pin(uint32_t pin);
uint32_t pin_count();

}  // namespace guest::apic
