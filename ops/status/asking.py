"""Query several servers concurrently; a silent server does not delay the answers of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from forebay.errors import ForebayError
from ops.errors import UsageError

#: The failures of a question that do not stop the others.
_FAILURES = (ForebayError, psycopg.Error, BotoCoreError, ClientError)


@dataclass(slots=True)
class Answer:
    """The answer to one question, or the reason for its absence."""

    value: Any = None
    reason: str | None = None
    #: A defect, or wrong usage: raised where the answers are collected.
    error: BaseException | None = None
    arrived: threading.Event = field(default_factory=threading.Event)


Question = Callable[[], Any]


def ask_all(questions: Mapping[str, Question], *, seconds: float) -> dict[str, Answer]:
    """Ask all questions concurrently, and wait for the answers for at most `seconds`.

    The thread of a silent server is abandoned; it ends when its connection does.

    Raises:
        UsageError: a question showed that the command was called wrongly.
    """
    answers = {name: Answer() for name in questions}
    for name, question in questions.items():
        thread = threading.Thread(
            target=_ask, args=(question, answers[name]), name=f"status-{name}", daemon=True
        )
        thread.start()
    deadline = time.monotonic() + seconds
    for answer in answers.values():
        if not answer.arrived.wait(max(0.0, deadline - time.monotonic())):
            answer.reason = f"no answer within {seconds:g} s"
        elif answer.error is not None:
            raise answer.error
    return answers


def _ask(question: Question, answer: Answer) -> None:
    try:
        answer.value = question()
    except UsageError as exc:
        answer.error = exc
    except _FAILURES as exc:
        answer.reason = " ".join(str(exc).split()) or type(exc).__name__
    except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
        answer.error = exc
    finally:
        answer.arrived.set()
