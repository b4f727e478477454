"""End the stack's processes if their supervisor was killed: `python -m local.warden`.

A supervisor that gets SIGKILL can't stop its processes. So it starts this small process, and writes
a line with the running processes to its standard input after every change. When that closes, the
warden ends the processes of the last line, without an order: all of them survive a crash. A pipe
works on every Unix, and also covers the children's children, which Linux's parent-death signal does
not reach.
"""

import json
import signal
import sys
import time

from local.processes import is_pid_alive, signal_group

READY = b"ready\n"
_PATIENCE_SECONDS = 10.0  # Postgres needs a moment for its children
_POLL_SECONDS = 0.05


def main() -> None:
    """Wait for the end of standard input, then end the processes."""
    # The supervisor handles Ctrl-C and a closed terminal; the warden ignores them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    processes = []
    for line in sys.stdin:
        processes = json.loads(line)
    for pid, number in processes:
        signal_group(pid, number)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(is_pid_alive(pid) for pid, _ in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for pid, _ in processes:
        signal_group(pid)


if __name__ == "__main__":
    main()
