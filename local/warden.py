"""Stop the stack if its supervisor was killed: `python -m local.warden REGISTER`.

A supervisor that gets SIGKILL can't stop its processes. So it starts this small process and holds
the writing end of its standard input. When that closes, the warden stops the registered processes
in the usual order. A pipe works on every Unix, and also covers the children's children, which
Linux's parent-death signal does not reach.
"""

import signal
import sys
from pathlib import Path

from local.processes import read_register, stop_all, write_register

READY = b"ready\n"


def main() -> None:
    """Wait for the end of standard input, then stop the registered processes."""
    # The supervisor handles Ctrl-C and a closed terminal; the warden ignores them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    register = Path(sys.argv[1])
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    sys.stdin.read()
    stop_all(read_register(register))
    if register.parent.is_dir():
        write_register(register, [])


if __name__ == "__main__":
    main()
