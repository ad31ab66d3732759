"""The first process of an instance: it shows itself in every way in which a sibling might notice it.

It stands alone, as the payload does. Its token is its only argument, and it answers everybody with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import sys

PENDING = 40
"""Signals that are queued and never delivered: they count against the user, not the process."""


def answer(request: bytes, token: str) -> bytes:
    """To `connect NAME` the error of connecting to that abstract socket; to anything else the token."""
    if not request.startswith(b"connect "):
        return token.encode("ascii")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(b"\0" + request[8:])
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "?").encode("ascii")
    return b"connected"


def main(token: str) -> None:
    """Listen, say where, and answer for ever."""
    # As the first process of a pid namespace it would ignore this one.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    number = signal.SIGRTMIN + 5
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    for _ in range(PENDING):
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), number)
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream.bind(("0.0.0.0", 0))  # noqa: S104 - to be found
    stream.listen(8)
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.bind(("0.0.0.0", 0))  # noqa: S104
    waiting = selectors.DefaultSelector()
    for each in (stream, datagram):
        each.setblocking(False)
        waiting.register(each, selectors.EVENT_READ)
    ports = f"tcp={stream.getsockname()[1]} udp={datagram.getsockname()[1]}"
    print(f"beacon {ports}", flush=True)  # noqa: T201 - its way to say that it is ready
    while True:
        for key, _ in waiting.select():
            with contextlib.suppress(OSError):
                if key.fileobj is stream:
                    connection, _ = stream.accept()
                    connection.sendall(token.encode("ascii"))
                    connection.close()
                else:
                    request, sender = datagram.recvfrom(128)
                    datagram.sendto(answer(request, token), sender)


if __name__ == "__main__":
    main(sys.argv[1])
