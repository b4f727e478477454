"""Objects and their events come twice, out of order, in bursts, or never."""

import time

from forebay.aws.events import build_event
from tests.fixtures.emulator import wait_until
from tests.fixtures.faults import lasting
from tests.fixtures.faulty import SWEEP_GRACE_SECONDS, VISIBILITY_SECONDS, FaultyStack

PART = "delivery"


def test_records_come_twice(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "duplicated records", "Firehose delivers every record twice", part=PART
    ) as watched:
        stack.set_firehose_faults(duplicate=1.0)
        time.sleep(lasting(15))
        stack.set_firehose_faults()
        watched.ends()
    ((count,),) = stack.as_superuser("SELECT sum(duplicates)::int FROM forebay.ledger")
    assert count > 0
    watched.fault.remark = f"{count} lines counted as duplicates"
    stack.results.add(watched.fault)


def test_records_come_in_another_order(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "reordered records",
        "Firehose shuffles every object, and holds it back behind a later one",
        part=PART,
    ) as watched:
        stack.set_firehose_faults(reorder=1.0)
        time.sleep(lasting(15))
        stack.set_firehose_faults()
        watched.ends()


def test_messages_come_in_a_storm(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    sent = 0
    with stack.fault(
        "SQS redelivery storm",
        "each new object's event is sent 20 times more, and messages come back after 1 s, also "
        "during their processing",
        part=PART,
    ) as watched:
        stack.hide_messages_for(1)
        try:
            seen = set(stack.keys())
            deadline = time.monotonic() + lasting(15)
            while time.monotonic() < deadline:
                new = set(stack.keys()) - seen
                seen |= new
                for key in new:
                    sent += repeat(stack, key, 20)
                time.sleep(0.2)
            watched.ends()
            wait_until(lambda: is_idle(stack), "the storm is over", timeout_seconds=120)
        finally:
            stack.hide_messages_for(VISIBILITY_SECONDS)
        watched.fault.remark = f"{sent} messages too many"
    assert sent > 100


def repeat(stack: FaultyStack, key: str, times: int) -> int:
    """Send an object's event `times` times; return that number."""
    body = build_event(stack.deployed.archive_bucket, key)
    for start in range(0, times, 10):
        stack.sqs.send_message_batch(
            QueueUrl=stack.deployed.queue_url,
            Entries=[
                {"Id": str(number), "MessageBody": body} for number in range(start, start + 10)
            ],
        )
    return times


def is_idle(stack: FaultyStack) -> bool:
    """Return whether the queue is nearly empty; traffic continues, so a few messages are normal."""
    answer = stack.sqs.get_queue_attributes(
        QueueUrl=stack.deployed.queue_url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"]) < 5


def test_events_are_lost(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    bucket = stack.deployed.archive_bucket
    with stack.fault(
        "S3 events lost",
        "the bucket's notification is switched off; the scheduled sweep finds the objects "
        f"(grace time {SWEEP_GRACE_SECONDS} s, every minute)",
        part=PART,
    ) as watched:
        kept = stack.s3.get_bucket_notification_configuration(Bucket=bucket)
        kept.pop("ResponseMetadata")  # type: ignore[misc]
        before = set(stack.keys())
        stack.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        time.sleep(lasting(15))
        missed = len(set(stack.keys()) - before)
        stack.s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration=kept,  # type: ignore[arg-type]  # the answer of the get call
        )
        watched.ends()
        watched.fault.remark = f"{missed} objects without an event"
    assert missed > 0
