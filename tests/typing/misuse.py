"""What a type checker must refuse. Each line that ends with `# E: code` is one error of that code, and no other line is.

Never imported or run: `test_typing.py` shows it to mypy.
"""

from __future__ import annotations

from dataclasses import dataclass

from yadtq import TaskContext, TaskHandle, Yadtq
from yadtq.sync import YADTQClient

app = Yadtq("typing")


@app.task
async def addition(x: int, y: int) -> int:
    return x + y


@app.task(retries=3, timeout=30)
async def greeting(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@app.task
def send(ctx: TaskContext, to: str) -> bool:
    return bool(to and ctx.attempt)


@dataclass
class State:
    db: str


@app.task
async def stateful(ctx: TaskContext[State]) -> int:
    return ctx.state.db  # E: return-value


async def no_context(app: Yadtq) -> None: ...


Yadtq("other", lifespan=no_context)  # E: arg-type
Yadtq("other", lifespan="state")  # E: arg-type


async def arguments() -> None:
    await addition.submit(1)  # E: call-arg
    await addition.submit(1, 2, 3)  # E: call-arg
    await addition.submit(1, "2")  # E: arg-type
    await addition.submit(1, z=2)  # E: call-arg
    await greeting.submit("you", True)  # E: call-arg
    await greeting.submit("you", loud="very")  # E: arg-type
    await greeting.options(retries=1).submit(5)  # E: arg-type


async def the_context_is_not_an_argument(ctx: TaskContext) -> None:
    await send.submit(ctx, "me")  # E: call-arg,arg-type
    await send.submit()  # E: call-arg


async def through_the_client() -> None:
    async with app.client() as client:
        await client.submit(addition, 1, "2")  # E: call-overload
        await client.submit(addition)  # E: call-overload
        handle = await client.submit(addition, 1, 2)
        text: str = await handle.result()  # E: assignment
        text = await handle  # E: assignment
        text = await client.result(handle)  # E: arg-type
        many: list[TaskHandle[str]] = await client.submit_many(addition, [(1, 2)])  # E: arg-type
        await client.submit_many(addition, [1, 2])  # E: list-item
        await client.submit_many(addition, [(1, 2)], {"retires": 3})  # E: call-overload
        print(text, many)


async def results() -> None:
    handle = await addition.submit(1, 2)
    text: str = await handle.result()  # E: assignment
    (await handle.result()).upper()  # E: attr-defined
    number: int = handle.result()  # E: assignment
    handle.id = 5  # E: assignment
    print(text, number)


def options() -> None:
    addition.options(retries="three")  # E: arg-type
    addition.options(colour=1)  # E: call-arg
    addition.options(retry_base=1)  # E: call-arg
    app.task(retry=3)  # E: call-overload
    app.task(retries="three")  # E: call-overload
    app.task(task_id="a")  # E: call-overload


def options_of_the_blocking_client(client: YADTQClient) -> None:
    client.submit_task("addition", [1], retries="three")  # E: arg-type
    client.submit_task("addition", [1], colour=1)  # E: call-arg
    client.submit_many("addition", [[1]], timeout="long")  # E: arg-type
    client.submit_task("addition", "ab", timeout="1")  # E: arg-type
    number: int = client.submit_task("addition", [1])  # E: assignment
    client.get_result(5)  # E: arg-type
    print(number)


def settings() -> None:
    Yadtq("shop", kafka=9092)  # E: arg-type
    Yadtq("shop", kafak="h:1")  # E: call-arg
    Yadtq("shop", lease_s="long")  # E: arg-type
    Yadtq("shop", kafka_sasl="PLAINTEXT")  # E: arg-type
    Yadtq("shop", include=[5])  # E: list-item
    app.configure(lease=7)  # E: call-arg
    YADTQClient(app="shop", kafak="h:1")  # E: call-arg
    YADTQClient("shop")  # E: arg-type
