"""Payments."""

from orders.app import app
from orders.shared import State
from orders.tasks.mail import confirm
from yadtq import Discard, TaskContext


@app.task(retries=5, retry_base=60, timeout=30)
async def charge(ctx: TaskContext[State], order: str, cents: int, mail: str) -> str:
    if cents <= 0:
        raise Discard(f"order {order} costs nothing")
    # The same key in every attempt: a repeat after a fault charges nobody twice.
    await ctx.state.bank.charge(ctx.idempotency_key, cents)
    # Its id is made of this task's id and the call, so a repeat submits it once.
    await confirm.submit(order, mail)
    return f"order {order} is paid"
