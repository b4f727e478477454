"""Ends the stack when the process that supervised it was killed: `python -m local.warden REGISTER`.

A supervisor that gets SIGKILL can't stop anything, so it keeps this small process beside it and
holds the writing end of its standard input. When that closes, whoever is still in the register is
stopped in the usual order. A pipe works on every Unix, also for the children's children, which
Linux's parent-death signal does not reach.
"""

import signal
import sys
from pathlib import Path

from local.processes import read_register, stop_all, write_register

READY = b"ready\n"


def main() -> None:
    """Waits for the end of standard input, then stops what the register names."""
    # Ctrl-C and a closed terminal reach the supervisor, which decides; this process only follows.
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
