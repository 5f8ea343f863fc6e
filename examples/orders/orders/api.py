"""The HTTP interface. Every request may be repeated: the id of a task is made of the order's number."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, PositiveInt

from orders.app import app
from orders.tasks.payments import charge
from yadtq import BrokerUnavailable, StoreUnavailable, SubmitUncertain, TaskNotFound
from yadtq.errors import SubmitOverloaded


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    async with app.client() as client:
        api.state.tasks = client
        yield


api = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    cents: PositiveInt
    mail: str


@api.exception_handler(BrokerUnavailable)
@api.exception_handler(StoreUnavailable)
@api.exception_handler(SubmitOverloaded)
@api.exception_handler(SubmitUncertain)
async def away(request: Request, error: Exception) -> JSONResponse:
    """Nothing is lost by a repeat, whether or not the task was accepted."""
    return JSONResponse({"detail": "try again"}, status_code=503, headers={"Retry-After": "5"})


@api.post("/orders/{number}", status_code=202)
async def place(number: str, order: Order) -> dict[str, str]:
    handle = await charge.options(task_id=f"charge-{number}").submit(number, order.cents, order.mail)
    return {"task": handle.id}


@api.get("/orders/{number}")
async def look(number: str, request: Request) -> dict[str, str]:
    try:
        return {"payment": await request.app.state.tasks.status(f"charge-{number}")}
    except TaskNotFound:
        raise HTTPException(404) from None
