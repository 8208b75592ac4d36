// What the parts of the legacy guest offer each other.
#pragma once

namespace guest {

// Registers, FIFO, loopback and sending, polled.
void serial_polled();

// Sends by transmitter-empty interrupts, then echoes received lines until one says "quit".
void serial_interrupts();

// Sends bytes=N (160 KiB) without ever asking whether there is room for them.
void serial_flood();

}  // namespace guest
