from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.poll import consistently, eventually
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BLOB = bytes(range(256)) * 4_000


class Echo:
    """A server that sends back what it gets and counts it; `greet` lines come unasked."""

    def __init__(self) -> None:
        self.received = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(65_536):
                self.received += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def echo_behind_proxy(seed: int = 0) -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with Proxy("127.0.0.1", server.sockets[0].getsockname()[1], seed=seed) as proxy:
        yield echo, proxy
    server.close()
    await eventually(lambda: echo.ended == len(echo.writers), what="the server's connections to end")


@asynccontextmanager
async def client_of(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"ping") -> bytes:
    writer.write(data)
    async with asyncio.timeout(5):
        return await reader.readexactly(len(data))


async def test_passes_large_streams_unchanged_and_counts_them() -> None:
    async with echo_behind_proxy() as (_, proxy), client_of(proxy) as (reader, writer):
        assert await asked(reader, writer, BLOB) == BLOB
        assert proxy.bytes == {"up": len(BLOB), "down": len(BLOB)}
        assert (proxy.connections, proxy.open_links) == (1, 1)
        writer.write_eof()
        assert await reader.read() == b""
        await eventually(lambda: proxy.open_links == 0)


async def test_delay_holds_back_and_healing_ends_it_at_once() -> None:
    async with echo_behind_proxy() as (_, proxy), client_of(proxy) as (reader, writer):
        proxy.delay(0.05)
        began = time.monotonic()
        await asked(reader, writer)
        assert time.monotonic() - began >= 0.1  # there and back

        proxy.delay(60)
        writer.write(b"late")
        await consistently(lambda: proxy.bytes["up"] == 4, during=0.05)
        proxy.heal()
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"late"


async def test_throttle_limits_the_rate_until_lifted() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        proxy.throttle(10_000)
        writer.write(BLOB)
        await consistently(lambda: echo.received < 20_000, during=0.3)
        assert echo.received > 0
        proxy.heal()
        assert await asyncio.wait_for(reader.readexactly(len(BLOB)), 5) == BLOB


async def test_hold_delivers_everything_after_healing_also_to_new_connections() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.hold()
        writer.write(b"more")
        async with client_of(proxy) as (new_reader, new_writer):
            new_writer.write(b"new!")
            await consistently(lambda: echo.received == 4, during=0.05)
            proxy.heal()
            assert await asyncio.wait_for(reader.readexactly(4), 5) == b"more"
            assert await asyncio.wait_for(new_reader.readexactly(4), 5) == b"new!"


async def test_black_hole_swallows_and_its_connections_are_reset_on_healing() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.black_hole()
        writer.write(b"lost")
        async with client_of(proxy) as (new_reader, new_writer):
            new_writer.write(b"lost")
            await eventually(lambda: proxy.swallowed["up"] == 8)
            assert echo.received == 4
            proxy.heal()
            for stream in (reader, new_reader):
                with pytest.raises(ConnectionResetError):
                    await stream.read()


async def test_a_connection_that_lost_nothing_survives_a_black_hole() -> None:
    async with echo_behind_proxy() as (_, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.black_hole()
        proxy.heal()
        assert await asked(reader, writer) == b"ping"


async def test_one_way_black_hole_up_loses_requests_only() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.black_hole(up=True, down=False)
        writer.write(b"lost")
        await eventually(lambda: proxy.swallowed["up"] == 4)
        echo.writers[0].write(b"news")
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"news"
        assert echo.received == 4


async def test_one_way_black_hole_down_loses_replies_only() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (_, writer):
        proxy.black_hole(up=False, down=True)
        writer.write(b"done")
        await eventually(lambda: proxy.swallowed["down"] == 4)
        assert echo.received == 4


async def test_an_end_is_not_heard_through_a_black_hole() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.black_hole(up=False, down=True)
        echo.writers[0].write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)


async def test_reset_hits_present_and_new_connections() -> None:
    async with echo_behind_proxy() as (_, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        async with client_of(proxy) as (new_reader, _):
            with pytest.raises(ConnectionResetError):
                await new_reader.read()
        proxy.heal()
        async with client_of(proxy) as (new_reader, new_writer):
            assert await asked(new_reader, new_writer) == b"ping"


async def test_drop_leaves_new_connections_alone() -> None:
    async with echo_behind_proxy() as (_, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.drop()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        async with client_of(proxy) as (new_reader, new_writer):
            assert await asked(new_reader, new_writer) == b"ping"


async def test_half_close_ends_one_direction_while_the_other_goes_on() -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.half_close("down")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.write(b"still")
        await eventually(lambda: echo.received == 9)


@pytest.mark.parametrize("rst", [True, False])
async def test_cut_falls_on_the_exact_byte(rst: bool) -> None:
    async with echo_behind_proxy() as (echo, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        proxy.cut_after(10, rst=rst)
        writer.write(b"x" * 100)
        if rst:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 5)
        else:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        await eventually(lambda: echo.ended == 1)
        assert echo.received == 14


async def test_random_cuts_repeat_with_the_seed() -> None:
    async def cuts(seed: int) -> list[int]:
        places = []
        async with echo_behind_proxy(seed) as (echo, proxy):
            proxy.cut_after(1, spread=1_000)
            for _ in range(4):
                before = echo.received
                async with client_of(proxy) as (_, writer):
                    writer.write(bytes(2_000))
                    await eventually(lambda: echo.ended == len(echo.writers) == proxy.connections)
                places.append(echo.received - before)
        return places

    first = await cuts(seed=3)
    assert first == await cuts(seed=3)
    assert first != await cuts(seed=4)


async def test_an_absent_server_and_a_closed_proxy_refuse() -> None:
    async with Proxy("127.0.0.1", 1) as proxy:
        async with client_of(proxy) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        port = proxy.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("mode", ["heal", "hold", "black_hole"])
async def test_close_ends_connections_in_every_mode_and_the_port_is_kept(mode: str) -> None:
    async with echo_behind_proxy() as (_, proxy), client_of(proxy) as (reader, writer):
        await asked(reader, writer)
        getattr(proxy, mode)()
        writer.write(b"on its way")
        port = proxy.port
        await proxy.close()
        assert proxy.open_links == 0
        await eventually(lambda: reader.at_eof() or reader.exception())
        proxy.heal()
        await proxy.start()
        assert proxy.port == port
