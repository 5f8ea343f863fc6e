"""What follows a task is in Kafka before its record may go; after a crash in between it comes again, and is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import bring, make_delivery
from tests.support.doubles import Sink
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.place import Place
from yadtq.delivery.sequels import Endings
from yadtq.runtime.seams import OutRecord
from yadtq.testing.doubles import ManualClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.delivery.delivery import Delivery
    from yadtq.wire.envelope import Envelope

#: Where it is found to be final: this attempt has stored its end, or a claim says that it ended long ago.
ENDED = [Place.STORING, Place.CLAIMING]


class Next:
    """`Sequel`: two tasks after each but those named `last...`."""

    def records(self, envelope: Envelope) -> Sequence[OutRecord]:
        if envelope.id.startswith("last"):
            return ()
        return [OutRecord("next", f"{envelope.id}-{n}".encode()) for n in (1, 2)]


class Bench:
    def __init__(self) -> None:
        self.producer = Sink()
        self.outbox = Outbox(producer=self.producer, clock=ManualClock())
        self.endings = Endings(outbox=self.outbox, sequels=[Next(), Next()])

    async def append(self) -> None:
        """All that the outbox holds, or one failure."""
        self.outbox.stop()
        await self.outbox.run()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ended(place: Place, task_id: str = "a") -> Delivery:
    return bring(make_delivery(task_id=task_id), place)


def watermark(delivery: Delivery) -> int:
    return delivery.source.watermark  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ENDED)
async def test_first_what_follows_and_then_the_record(bench: Bench, place: Place) -> None:
    delivery = ended(place)
    bench.endings.ended(delivery)
    assert (delivery.place, watermark(delivery)) == (Place.OUTBOX, 0)
    await bench.append()
    assert [each.value for each in bench.producer.appended] == [b"a-1", b"a-2", b"a-1", b"a-2"], "of all sequels"
    assert (delivery.place, watermark(delivery)) == (Place.RELEASED, 1)


@pytest.mark.parametrize("place", ENDED)
async def test_without_anything_that_follows_the_record_goes_at_once(bench: Bench, place: Place) -> None:
    delivery = ended(place, "last")
    bench.endings.ended(delivery)
    assert (delivery.place, watermark(delivery), len(bench.outbox)) == (Place.RELEASED, 1, 0)


async def test_while_kafka_is_away_the_record_stays(bench: Bench) -> None:
    delivery = ended(Place.STORING)
    bench.producer.down = True
    bench.endings.ended(delivery)
    await bench.append()
    assert watermark(delivery) == 0


async def test_a_worker_that_dies_between_end_and_append_costs_nothing(bench: Bench) -> None:
    """The record comes again, the claim says that its task has ended, and the same records follow."""
    bench.endings.ended(ended(Place.STORING))
    successor = Bench()
    successor.endings.ended(ended(Place.CLAIMING))
    for each in (bench, successor):
        await each.append()
    assert bench.producer.appended == successor.producer.appended
