"""The app. Modules with tasks are named and not imported here: they import this one."""

from orders.shared import lifespan
from yadtq import Yadtq

app = Yadtq("orders", include=["orders.tasks"], lifespan=lifespan)
