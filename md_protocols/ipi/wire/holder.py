"""A program that holds a connection to the end when the process that uses it is killed; see HeldConnection.

Run as a file, with the standard library only, so that it is there within milliseconds.
Arguments: the connection's file descriptor and the number of the process that uses it, whose end closes our stdin.
"""

import os
import select
import signal
import socket
import sys

PATIENCE_S = 10.0  # for the server to close its side, or to say something more


def main() -> None:
    """Wait for the end of the other process, then say that no more will come, and read what the server still sends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    link, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    while os.getppid() == parent and not select.select([0], [], [], 1.0)[0]:
        pass
    try:
        link.shutdown(socket.SHUT_WR)
        link.settimeout(PATIENCE_S)
        while link.recv(1 << 16):
            pass
    except OSError:
        pass


if __name__ == "__main__":
    main()
