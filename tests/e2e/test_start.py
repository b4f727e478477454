"""The commands and addresses that the start prints work unchanged."""

import json
import shlex
import subprocess
from typing import Any

from local.credentials import read_secret_key
from tests.fixtures.emulator import aws_client
from tests.fixtures.stack import RunningStack


def printed_example(stack: RunningStack) -> str:
    """The example's lines in the output, as a reader would paste them."""
    lines = stack.process.said().splitlines()
    first = next(number for number, line in enumerate(lines) if "curl" in line)
    last = max(number for number, line in enumerate(lines) if "curl" in line)
    return "\n".join(lines[first : last + 1])


def test_the_printed_commands_work_when_pasted(stack: RunningStack) -> None:
    pasted = subprocess.run(
        ["sh"],
        input=printed_example(stack),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    pending = json.loads(pasted.stderr)
    status, item = (json.loads(text) for text in split_documents(pasted.stdout))
    assert pending["status"] == "pending"
    assert (status["command_id"], status["status"]) == (pending["command_id"], "applied")
    assert pending["links"]["item"] in printed_example(stack)
    for name, value in sent(printed_example(stack)).items():
        assert item[name] == value


def sent(example: str) -> dict[str, Any]:
    """The item that the first of these lines writes."""
    words = shlex.split(example.partition("| tee")[0].removeprefix("id=$("))
    document: dict[str, Any] = json.loads(words[words.index("-d") + 1])
    return document


def split_documents(text: str) -> list[str]:
    """Split concatenated JSON objects, as two answers without a newline are."""
    decoder, documents, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        _, end = decoder.raw_decode(text, at)
        documents.append(text[at:end])
        at = end
    return documents


def first_answer(stack: RunningStack, function: str) -> tuple[str, int]:
    """Path and status of the first answer that the function has logged since the start."""
    logs = aws_client("logs", stack.settings.emulator_url, key=read_secret_key(stack.settings))
    events = logs.filter_log_events(logGroupName=f"/aws/lambda/forebay-local-{function}")["events"]
    lines = [event["message"] for event in sorted(events, key=lambda event: event["timestamp"])]
    answered = next(line for line in lines if f'"{function}_answered"' in line)
    document = json.loads(answered[answered.index("{") :])
    return document["path"], document["status"]


def test_both_functions_have_answered_before_the_first_client(stack: RunningStack) -> None:
    """Otherwise the first write pays for the function's start, or fails if that takes too long."""
    assert first_answer(stack, "read") == ("/v1/announcements", 200)
    # An empty batch, which stores no command.
    assert first_answer(stack, "write") == ("/v1/announcements", 400)


def test_the_printed_addresses_are_those_of_both_databases(stack: RunningStack) -> None:
    output = stack.process.said()
    ports = stack.settings.ports
    assert f"127.0.0.1:{ports.primary}/forebay" in output
    assert f"127.0.0.1:{ports.replica}/forebay" in output
    assert stack.as_superuser("SELECT pg_is_in_recovery()") == [(False,)]
    assert stack.as_superuser("SELECT pg_is_in_recovery()", on_replica=True) == [(True,)]
