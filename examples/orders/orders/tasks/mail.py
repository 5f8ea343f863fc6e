"""Mail: in a queue of its own, so that a slow mail server delays no payment."""

from orders.app import app
from orders.shared import State
from yadtq import TaskContext


@app.task(queue="mail", retries=5, timeout=30)
async def confirm(ctx: TaskContext[State], order: str, to: str) -> None:
    ctx.state.sent.append(f"{to}: order {order} is paid")
