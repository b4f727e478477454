"""What the start prints can be used as it is printed."""

import json
import re
import subprocess

from tests.fixtures.stack import RunningStack


def printed_example(stack: RunningStack) -> str:
    """The lines that a reader would paste, as they stand there."""
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
    assert (item["code"], item["name"]) == ("XK", "Kosovo")


def split_documents(text: str) -> list[str]:
    """JSON objects that stand behind each other, as two answers without a newline do."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = end
    return found


def test_both_functions_have_answered_before_any_client_asks(stack: RunningStack) -> None:
    """Else the first write pays for the function's start, or fails where that takes too long."""
    log = (stack.settings.logs / "gateway.log").read_text()
    first = re.findall(r"\b(GET|POST|PUT|DELETE) (/v1/\S+) ([0-9]{3}) ", log)[:2]
    assert {(method, status) for method, _, status in first} == {("GET", "200"), ("POST", "400")}


def test_the_printed_addresses_are_those_of_both_databases(stack: RunningStack) -> None:
    said = stack.process.said()
    ports = stack.settings.ports
    assert f"127.0.0.1:{ports.primary}/forebay" in said
    assert f"127.0.0.1:{ports.replica}/forebay" in said
    assert stack.as_superuser("SELECT pg_is_in_recovery()") == [(False,)]
    assert stack.as_superuser("SELECT pg_is_in_recovery()", on_replica=True) == [(True,)]
