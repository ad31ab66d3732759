"""Published ports: a port of the host's loopback address that leads to a container's.

In user space, because redirecting what arrives on 127.0.0.1 inside the kernel takes
`route_localnet`, a global setting that opens the host's loopback services to neighbours
(CVE-2020-8558). It is made for reaching a service, not for measuring one: a measurement goes to the
container's own address.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from ipaddress import IPv4Address
from types import TracebackType
from typing import Any, Self, TypeVar

from pybench.runtime.errors import HostError

Result = TypeVar("Result")

HOST_ADDRESS = "127.0.0.1"
CHUNK = 65536
"""Bytes read at once; asyncio stops reading while the other side does not take them."""


class PublishedPorts:
    """A thread that passes TCP connections on; a context manager that ends them all."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pybench-publish", daemon=True)
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, address: IPv4Address, port: int, *, host_port: int = 0) -> int:
        """Let a port of 127.0.0.1 (0: any that is free) lead to a container's; returns the host's port.

        Raises:
            HostError: the host's port is taken, or not this user's to take.
        """
        try:
            return self._call(self._listen(str(address), port, host_port))
        except OSError as error:
            raise HostError(
                f"cannot publish port {port} of {address} as {HOST_ADDRESS}:{host_port}: {error.strerror}",
                "choose another port, or 0 for any that is free",
            ) from error

    def withdraw(self, host_port: int) -> None:
        """Publish a port no longer; connections that exist go on until the container ends."""
        self._call(self._close(host_port))

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self, address: str, port: int, host_port: int) -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_connect(reader, writer, address, port))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        server = await asyncio.start_server(accept, HOST_ADDRESS, host_port)
        number: int = server.sockets[0].getsockname()[1]
        self._servers[number] = server
        return number

    async def _close(self, host_port: int) -> None:
        if (server := self._servers.pop(host_port, None)) is not None:
            server.close()

    async def _end_all(self) -> None:
        for number in tuple(self._servers):
            await self._close(number)
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_hang_up, writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(address, port)
        except OSError:
            # The client sees its connection end, as it would if the service had closed it.
            return
        stack.push_async_callback(_hang_up, there_writer)
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass bytes on until the source has no more, and then say so to the sink."""
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
