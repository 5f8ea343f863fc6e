"""taskiq over a Redis stream, or over Kafka. It takes uvloop by itself when that is installed."""

from __future__ import annotations

import asyncio
import os

import recorder
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

_REDIS = os.environ["BENCH_REDIS"]
_results = RedisAsyncResultBackend(_REDIS, result_ex_time=3600, serializer=JSONSerializer())

if os.environ["BENCH_BROKER"] == "kafka":
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from aiokafka.partitioner import DefaultPartitioner
    from kafka.admin import NewTopic
    from taskiq_aio_kafka import AioKafkaBroker

    _topic = NewTopic(name=os.environ["BENCH_TOPIC"], num_partitions=4, replication_factor=1)
    broker = AioKafkaBroker(os.environ["BENCH_KAFKA"], kafka_topic=_topic).with_result_backend(_results)
    # taskiq-aio-kafka 1.0.0 takes both from kafka-python, whose 3.x partitioner is no longer callable.
    broker.configure_producer(partitioner=DefaultPartitioner())
    broker.configure_consumer(
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        group_id=f"group-{os.environ['BENCH_TOPIC']}",
        auto_offset_reset="earliest",
    )
else:
    # consumer_id 0: also what was queued before the group existed
    broker = RedisStreamBroker(_REDIS, queue_name="bench", consumer_id="0").with_result_backend(_results)


@broker.task(task_name="noop")
async def noop(i: int) -> int:
    recorder.hit()
    return i


@broker.task(task_name="sleep50")
async def sleep50(i: int) -> int:
    recorder.hit()
    await asyncio.sleep(0.05)
    return i
