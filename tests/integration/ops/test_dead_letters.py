"""Dead letters are shown and sent again, and none is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from forebay.aws.events import build_event
from forebay.aws.queue import Message, Queue
from forebay.errors import TransientError
from forebay.failures import record_failure
from ops import dead_letters
from ops.errors import RefusedError
from tests.fixtures import hostile
from tests.fixtures.commands import city
from tests.fixtures.site import Site


def bodies(queue: Queue) -> list[str]:
    return sorted(message.body for message in queue.peek(10_000))


def test_a_letter_names_its_objects_and_whether_they_are_applied_now(site: Site) -> None:
    done, open_ = site.put_and_apply(city(1, key=1)), site.put(city(2, key=2))
    site.dead_letters.send(
        [build_event(site.bucket, done), build_event(site.bucket, open_), "not one of ours"]
    )
    letters = dead_letters.read(site.dead_letters, site.bucket, site.database.connection, 100)
    facts_by_objects = {tuple(letter.objects): letter.applied for letter in letters}
    assert facts_by_objects == {(done,): "yes", (open_,): "no", (): "no"}
    assert site.dead_letters.depth().visible == 3


def test_a_letter_names_the_failure_of_its_object_and_the_number_of_attempts(site: Site) -> None:
    failed, quiet = site.put(city(1, key=1)), site.put(city(2, key=2))
    for error in ("HeldError: deploy the newer release", "HeldError: still"):
        record_failure(site.database.connection, failed, error)
    site.dead_letters.send([build_event(site.bucket, key) for key in (failed, quiet)])
    site.dead_letters.send(["not one of ours"])
    for _ in range(3):  # reading a letter does not count as a failure
        letters = dead_letters.read(site.dead_letters, site.bucket, site.database.connection, 100)
    facts_by_objects = {
        tuple(letter.objects): (letter.reason, letter.failures) for letter in letters
    }
    assert facts_by_objects[(failed,)] == ("HeldError: still", 2)
    assert facts_by_objects[(quiet,)] == (None, None)
    assert "is not JSON" in str(facts_by_objects[()][0])


def test_a_queue_that_gives_up_messages_is_not_looked_at(site: Site) -> None:
    """Each read would count as a delivery there, and bring the message closer to the limit."""
    sqs = site.queue._client
    attributes = sqs.get_queue_attributes(
        QueueUrl=site.dead_letters.url, AttributeNames=["QueueArn"]
    )["Attributes"]
    policy = {"deadLetterTargetArn": attributes["QueueArn"], "maxReceiveCount": "2"}
    sqs.set_queue_attributes(
        QueueUrl=site.queue.url, Attributes={"RedrivePolicy": json.dumps(policy)}
    )
    site.queue.send(["a"])
    for _ in range(5):
        with pytest.raises(RefusedError, match="is not a dead-letter queue"):
            dead_letters.read(site.queue, site.bucket, site.database.connection, 100)
    (message,) = site.queue.receive()
    assert message.receives == 1


def test_no_letter_hides_the_others(site: Site) -> None:
    """A letter with any content is shown, and so are its neighbours."""
    done = site.put_and_apply(city(1, key=1))
    strange = [
        *("null", "[]", '{"Records":[]}', "[" * 5_000, "\u202e", "[/x]", "x" * 1_000),
        build_event("another-bucket", "commands/a.gz"),
        *(build_event(site.bucket, f"commands/{text}") for text in hostile.TRAVERSAL),
        *(build_event(site.bucket, f"commands/{text}") for text in hostile.UNICODE),
    ]
    site.dead_letters.send([*strange, build_event(site.bucket, done)])
    letters = dead_letters.read(site.dead_letters, site.bucket, site.database.connection, 1_000)
    assert sorted(letter.body for letter in letters) == sorted(
        [*strange, build_event(site.bucket, done)]
    )
    assert [letter.objects for letter in letters if letter.applied == "yes"] == [[done]]


def test_every_letter_moves_once_and_is_counted(site: Site) -> None:
    sent = [build_event(site.bucket, f"commands/{number}.gz") for number in range(37)]
    site.dead_letters.send(sent)
    moved: list[int] = []
    redriven = dead_letters.redrive(site.dead_letters, site.queue, on_moved=moved.append)
    assert (redriven.moved, redriven.left, sum(moved)) == (37, 0, 37)
    assert (redriven.dead_before.total, redriven.dead_after.total) == (37, 0)
    assert (redriven.queue_before.total, redriven.queue_after.total) == (0, 37)
    assert bodies(site.queue) == sorted(sent)


def test_only_the_chosen_letters_move(site: Site) -> None:
    site.dead_letters.send(["a", "b", "c"])
    chosen = next(message for message in site.dead_letters.peek(10) if message.body == "b")
    redriven = dead_letters.redrive(site.dead_letters, site.queue, only=[chosen.id])
    assert (redriven.moved, redriven.left) == (1, 2)
    assert bodies(site.queue) == ["b"]
    assert bodies(site.dead_letters) == ["a", "c"], "the others can be received again at once"


class Cut(Queue):
    """A queue with a connection that breaks after the given number of calls of one kind."""

    sends = deletes = 10**9

    def send(self, bodies: Sequence[str]) -> None:
        if self.sends <= 0:
            raise TransientError("cut")
        self.sends -= 1
        super().send(bodies)

    def delete(self, messages: Sequence[Message]) -> None:
        if self.deletes <= 0:
            raise TransientError("cut")
        self.deletes -= 1
        super().delete(messages)

    def receive(self, *, hidden_seconds: int = 1) -> list[Message]:
        del hidden_seconds  # so that the messages that the dead run had hidden reappear soon
        return super().receive(hidden_seconds=1)


@pytest.mark.parametrize(("sends", "deletes"), [(0, 9), (2, 9), (9, 0), (9, 2)])
def test_wherever_a_redrive_breaks_off_no_letter_is_lost(
    site: Site, sends: int, deletes: int
) -> None:
    sent = {build_event(site.bucket, f"commands/{number}.gz") for number in range(35)}
    site.dead_letters.send(sorted(sent))
    dead = Cut(site.dead_letters._client, site.dead_letters.url)
    queue = Cut(site.queue._client, site.queue.url)
    queue.sends, dead.deletes = sends, deletes
    with pytest.raises(TransientError):
        dead_letters.redrive(dead, queue)

    queue.sends = dead.deletes = 10**9
    while dead.depth().total:
        dead_letters.redrive(dead, queue)
    assert set(bodies(site.queue)) == sent


def test_a_message_that_sqs_refuses_in_a_batch_is_sent_again(site: Site) -> None:
    class Picky:
        """An SQS client that refuses the second message of the first call."""

        def __init__(self) -> None:
            self.calls = 0

        def __getattr__(self, name: str) -> object:
            return getattr(site.queue._client, name)

        def send_message_batch(self, **request: object) -> object:
            self.calls += 1
            entries = list(request["Entries"])  # type: ignore[call-overload]
            failed = [entries.pop(1)] if self.calls == 1 else []
            site.queue._client.send_message_batch(QueueUrl=site.queue.url, Entries=entries)
            return {"Failed": [{"Id": entry["Id"], "Code": "Internal"} for entry in failed]}

    Queue(Picky(), site.queue.url).send(["a", "b", "c"])  # type: ignore[arg-type]
    assert bodies(site.queue) == ["a", "b", "c"]
