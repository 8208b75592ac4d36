#!/usr/bin/env python3
"""Uses a guest's shell on a pseudo-terminal as a user would, and prints one line a check.

usage: console.py RINGLET KERNEL ROOT
"""

import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

LIMIT_S = float(os.environ.get("RINGLET_BOOT_LIMIT", "600"))
LEFT = 7  # ringlet's exit status after Ctrl-A X
PROMPT = b"# "


class Terminal:
    """The user's side of the terminal that ringlet runs on."""

    def __init__(self, command):
        self.user, side = pty.openpty()
        self.side = side  # kept open, to look at its mode when ringlet is gone
        self.mode_before = termios.tcgetattr(side)
        # As a login does it: a session of its own, with this as its controlling terminal.
        self.process = subprocess.Popen(
            command, stdin=side, stdout=side, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""
        self.deadline = time.monotonic() + LIMIT_S

    def type(self, text):
        while text:
            text = text[os.write(self.user, text):]

    def read(self):
        while not select.select([self.user], [], [], 0.5)[0]:
            if self.process.poll() is not None:
                raise TimeoutError(f"ringlet has ended with status {self.process.returncode}")
            if time.monotonic() > self.deadline:
                raise TimeoutError("the limit is reached")
        # The guest's terminal ends a line by CR LF, and ringlet's still makes CR LF of that LF.
        self.seen = re.sub(rb"\r+\n", b"\n", self.seen + os.read(self.user, 65536))

    def wait_for(self, text):
        """What came before `text`, which is taken as well."""
        while text not in self.seen:
            self.read()
        before, self.seen = self.seen.split(text, 1)
        return before

    def run(self, command):
        """The output of a command, between its echo and the next prompt."""
        self.type(command + b"\r")
        self.wait_for(command + b"\n")
        return self.wait_for(PROMPT)


def report(name, right, detail=""):
    print(f"ok      {name}" if right else f"FAILED  {name}: {detail}", flush=True)


def check_shell(terminal):
    terminal.run(b"dmesg -n 1")  # the kernel may speak at any time, of a slow host for one
    answer = terminal.run(b"echo a''b $((6 * 7))")
    report("what is typed is echoed, and answered", answer.startswith(b"ab 42\n"), answer[-200:])

    # Commands fit into a row of the terminal: the shell's line editor marks where it wraps them.
    loop = b"i=0; while [ $((i+=1)) -le 1000 ]; do echo $i in a long output; done"
    expected = b"".join(b"%d in a long output\n" % i for i in range(1, 1001))
    answer = terminal.run(loop)
    report("long output is complete and in order", answer.startswith(expected),
           f"{len(answer)} bytes for {len(expected)}: {answer[:100]!r} ... {answer[-100:]!r}")

    # Not while the line editor still has the terminal: it takes Ctrl-C for input.
    terminal.type(b"echo now''; while :; do :; done\r")
    terminal.wait_for(b"now\n")
    terminal.type(b"\x03")
    terminal.wait_for(PROMPT)
    answer = terminal.run(b"echo status $?")
    report("Ctrl-C interrupts a command of the guest", answer.startswith(b"status 130"), answer)

    # More than the serial port holds, less than the 4096 bytes that a terminal does.
    pasted = b"".join(b"pasted line %d\n" % i for i in range(1, 121))
    terminal.type(b"echo now''; cat >/tmp/pasted\r")
    terminal.wait_for(b"now\n")
    terminal.type(pasted + b"\x04")
    terminal.wait_for(PROMPT)
    answer = terminal.run(b"sha256sum /tmp/pasted")
    digest = hashlib.sha256(pasted).hexdigest().encode()
    report("what is pasted arrives complete", answer.startswith(digest), answer)


def check_leaving(terminal):
    terminal.type(b"\x01x")
    status = terminal.process.wait(300)
    report("Ctrl-A X leaves with its own status", status == LEFT, f"status {status}")
    mode = termios.tcgetattr(terminal.side)
    report("the terminal is restored", mode == terminal.mode_before, f"{mode}")


def end(*_):
    """Ends by an exception, so that ringlet does not outlive us."""
    raise TimeoutError("ended by SIGTERM")


def main():
    signal.signal(signal.SIGTERM, end)
    ringlet, kernel, root = sys.argv[1:]
    terminal = Terminal([ringlet, "run", "--kernel", kernel, "--disk", "path=" + root])
    try:
        terminal.wait_for(b"powers off when you leave")
        terminal.wait_for(PROMPT)
        report("ringlet's own command line gives a shell on the console", True)
        raw = termios.tcgetattr(terminal.side)
        report("the terminal is raw meanwhile", not raw[3] & (termios.ICANON | termios.ECHO))
        check_shell(terminal)
        check_leaving(terminal)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        report("the guest answers in time", False, f"{error}; it said {terminal.seen[-300:]!r}")
    finally:
        terminal.process.kill()


main()
