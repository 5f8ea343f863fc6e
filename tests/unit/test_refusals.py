"""Which errors are refusals, and what a submit says of them."""

from __future__ import annotations

import pytest
from aiokafka import errors as kafka

from yadtq.broker.refusals import InvalidRecord, refusal
from yadtq.client.submitter import _answers
from yadtq.errors import BrokerRefused, BrokerUnavailable, SubmitRefused

SUBMISSIONS = [(f"id-{n}", "t", b"", None, None, (), "") for n in range(3)]


@pytest.mark.parametrize(
    "error",
    [
        kafka.MessageSizeTooLargeError(),
        kafka.RecordListTooLargeError(),
        kafka.InvalidTimestampError(),
        kafka.TopicAuthorizationFailedError("t"),
        kafka.PolicyViolationError(),
        kafka.for_code(87)(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_says_the_topic_and_a_way_out(error: Exception) -> None:
    found = refusal("t", error)
    assert found is not None
    assert "topic t" in found.reason
    assert found.too_large is isinstance(error, kafka.MessageSizeTooLargeError | kafka.RecordListTooLargeError)


@pytest.mark.parametrize(
    "error",
    [
        None,
        kafka.RequestTimedOutError(),
        kafka.UnknownError(),
        kafka.NotEnoughReplicasError(),
        OSError("cut"),
        kafka.KafkaTimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_everything_else_is_none(error: Exception | None) -> None:
    assert refusal("t", error) is None


def test_a_code_that_aiokafka_does_not_know_has_a_name_here() -> None:
    assert kafka.for_code(87) is InvalidRecord


def test_each_submission_has_its_own_answer() -> None:
    refused = _answers(SUBMISSIONS, BrokerRefused("x", {1: "too large"}))
    assert refused[0] is refused[2] is None
    assert isinstance(refused[1], SubmitRefused)
    assert refused[1].task_ids == ["id-1"]
    away = BrokerUnavailable("x", uncertain={0}, refused={2: "no"})
    answers = _answers(SUBMISSIONS, away)
    assert answers[0] is away
    assert answers[1] is None
    assert isinstance(answers[2], SubmitRefused)
    assert _answers(SUBMISSIONS, BrokerUnavailable("all")) != [None] * 3
