"""A TCP proxy that breaks connections in every way a network does, switched while traffic flows.

Invariant: it never makes a byte stream that no network could make. A direction that lost bytes is never passed on
again, and `heal` resets its connection.

    async with Proxy("127.0.0.1", redis.port, seed=7) as proxy:
        proxy.black_hole(up=True, down=False)      # requests vanish, replies still come
        proxy.heal()

`up` is client to server, `down` is server to client.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal, Self

Direction = Literal["up", "down"]
CHUNK = 65_536
THROTTLE_STEP_S = 0.02
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Rule:
    """What happens to bytes now; the defaults pass them on."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    hold: frozenset[Direction] = frozenset()
    swallow: frozenset[Direction] = frozenset()
    reset: bool = False
    cut_after: int | None = None
    cut_spread: int = 0
    cut_rst: bool = True


@dataclass(eq=False)
class Link:
    """One client connection and the one to the server that it goes on to."""

    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    tainted: set[Direction] = field(default_factory=set)  # bytes of these directions are missing
    half_closed: set[Direction] = field(default_factory=set)
    budget: int | None = None  # bytes until the cut

    def ends(self, direction: Direction) -> tuple[asyncio.StreamReader, asyncio.StreamWriter | None]:
        if direction == "up":
            return self.client[0], self.server[1] if self.server else None
        assert self.server, "nothing flows down before the server is connected"
        return self.server[0], self.client[1]

    def writers(self) -> list[asyncio.StreamWriter]:
        return [self.client[1], *([self.server[1]] if self.server else [])]

    def end(self, *, rst: bool) -> None:
        """The first call decides how; later ones only end what was opened since."""
        for writer in self.writers():
            if writer.transport.is_closing():
                continue
            if rst:
                # Linger 0 makes the close below a reset instead of a polite end.
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Listens on a port of its own; one rule for all its connections, old and new."""

    def __init__(self, target_host: str, target_port: int, *, seed: int = 0) -> None:
        self._target = (target_host, target_port)
        self._random = random.Random(seed)
        self._rule = Rule()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._links: dict[Link, asyncio.Task[None]] = {}
        self.port = 0
        self.connections = 0
        self.bytes: dict[Direction, int] = {"up": 0, "down": 0}
        self.swallowed: dict[Direction, int] = {"up": 0, "down": 0}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def open_links(self) -> int:
        return len(self._links)

    async def start(self) -> None:
        """Keeps its port when started again after `close`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End everything; also the way to have connections refused for a while."""
        if self._server:
            self._server.close()
        tasks = list(self._links.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server:
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What tests switch; each call replaces the rule before it.

    def heal(self) -> None:
        self._switch(Rule())
        for link in list(self._links):
            if link.tainted:
                link.end(rst=True)

    def delay(self, seconds: float, *, jitter: float = 0.0) -> None:
        """Hold every chunk back for `seconds`, and up to `jitter` more; one after another, so it slows streams, too."""
        self._switch(Rule(delay_s=seconds, jitter_s=jitter))

    def throttle(self, bytes_per_s: float) -> None:
        """Per connection and direction."""
        self._switch(Rule(bytes_per_s=bytes_per_s))

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """A partition that heals: nothing arrives now, everything later, as TCP would retransmit it."""
        self._switch(Rule(hold=_directions(up=up, down=down)))

    def black_hole(self, *, up: bool = True, down: bool = True) -> None:
        """Accept, and swallow all bytes; connections that lost some are reset by `heal`."""
        self._switch(Rule(swallow=_directions(up=up, down=down)))

    def reset(self) -> None:
        """RST to all connections, and to each new one until healed."""
        self._switch(Rule(reset=True))
        self.drop()

    def drop(self) -> None:
        """RST to the connections of this moment; new ones go on under the present rule."""
        for link in list(self._links):
            link.end(rst=True)

    def half_close(self, direction: Direction = "down") -> None:
        """End one direction of the present connections (FIN); the other goes on, and so do new connections."""
        for link in list(self._links):
            if link.server and direction not in link.half_closed:
                link.half_closed.add(direction)
                _, writer = link.ends(direction)
                if writer and writer.can_write_eof():
                    writer.write_eof()

    def cut_after(self, count: int, *, spread: int = 0, rst: bool = True) -> None:
        """End each connection, in the middle of a frame, `count` (plus up to `spread`) bytes from now."""
        self._switch(Rule(cut_after=count, cut_spread=spread, cut_rst=rst))
        for link in self._links:
            link.budget = self._budget()

    def _switch(self, rule: Rule) -> None:
        self._rule = rule
        # Whoever waits under the old rule looks at the new one at once; the event is for them only.
        self._changed.set()
        self._changed = asyncio.Event()

    def _budget(self) -> int | None:
        rule = self._rule
        return None if rule.cut_after is None else rule.cut_after + self._random.randint(0, rule.cut_spread)

    # One connection

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = Link((reader, writer), budget=self._budget())
        task = asyncio.create_task(self._serve(link), name=f"proxy-{self.port}-{self.connections}")
        self._links[link] = task
        task.add_done_callback(lambda _: self._links.pop(link))

    async def _serve(self, link: Link) -> None:
        try:
            # Network errors end the connection and nothing else: that is what a proxy does.
            with contextlib.suppress(OSError):
                await self._connect(link)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._guarded_pump(link, "up"))
                    if link.server:
                        pumps.create_task(self._guarded_pump(link, "down"))
                link.end(rst=False)
        finally:
            link.end(rst=True)
            for writer in link.writers():
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _connect(self, link: Link) -> None:
        if self._rule.reset:
            raise ConnectionResetError
        while "up" in self._rule.hold:
            await self._rule_change()
        if len(self._rule.swallow) == 2:
            link.tainted |= {"up", "down"}  # to the server, this client never called
            return
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            link.server = await asyncio.open_connection(*self._target)
        if link.client[1].transport.is_closing():
            raise ConnectionResetError("the rule changed while connecting")
        for writer in link.writers():
            # No buffer of our own: drain() then means that the kernel has it, so a cut falls on the exact byte.
            writer.transport.set_write_buffer_limits(high=0)

    async def _guarded_pump(self, link: Link, direction: Direction) -> None:
        try:
            await self._pump(link, direction)
        except OSError:
            link.end(rst=True)  # the other pump sees it and ends, too

    async def _pump(self, link: Link, direction: Direction) -> None:
        reader, _ = link.ends(direction)
        while chunk := await reader.read(CHUNK):
            await self._deliver(link, direction, chunk)
        # An end must not overtake the rule either: in a black hole nobody hears that the other side is gone.
        while direction in self._rule.hold | self._rule.swallow:
            await self._rule_change()
        _, writer = link.ends(direction)
        if writer and direction not in link.tainted | link.half_closed and writer.can_write_eof():
            with contextlib.suppress(RuntimeError):  # uvloop's word for a connection that has just been cut
                writer.write_eof()

    async def _deliver(self, link: Link, direction: Direction, chunk: bytes) -> None:
        while direction in self._rule.hold:
            await self._rule_change()
        if delay := self._rule.delay_s + self._random.uniform(0, self._rule.jitter_s):
            await self._rule_change(delay)
        if direction in self._rule.swallow:
            link.tainted.add(direction)
        if direction in link.tainted | link.half_closed:
            self.swallowed[direction] += len(chunk)
            return
        if self._rule.bytes_per_s is not None:
            chunk = await self._trickle(link, direction, chunk)
        await self._write(link, direction, chunk)

    async def _trickle(self, link: Link, direction: Direction, chunk: bytes) -> bytes:
        """Send at the present rate; what is left when the rate is lifted is returned."""
        while chunk and (rate := self._rule.bytes_per_s) is not None:
            step = max(1, int(rate * THROTTLE_STEP_S))
            await self._write(link, direction, chunk[:step])
            await self._rule_change(len(chunk[:step]) / rate)
            chunk = chunk[step:]
        return chunk

    async def _write(self, link: Link, direction: Direction, chunk: bytes) -> None:
        _, writer = link.ends(direction)
        assert writer, "a link without a server is tainted"
        sent = chunk if link.budget is None else chunk[: link.budget]
        if sent:
            writer.write(sent)
            self.bytes[direction] += len(sent)
            await writer.drain()
        if link.budget is not None:
            link.budget -= len(sent)
            if link.budget <= 0:
                link.end(rst=self._rule.cut_rst)
                raise ConnectionAbortedError("cut")

    async def _rule_change(self, timeout: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()


def _directions(*, up: bool, down: bool) -> frozenset[Direction]:
    chosen: set[Direction] = set()
    if up:
        chosen.add("up")
    if down:
        chosen.add("down")
    return frozenset(chosen)
