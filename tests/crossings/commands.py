"""Draw the commands of a history, and compute the rejection codes possible for each command."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field
from typing import Any

from forebay.codec import encode
from forebay.command import Command, Op
from forebay.ids import join_id
from tests.crossings.releases import LAST, NARROW, UNLUCKY

FIRST = dt.datetime(2026, 1, 5, 0, 30, tzinfo=dt.UTC)
#: Time between the acceptance of two commands.
STEP = dt.timedelta(minutes=7)
OWNERS = ("ann", "bob", "cy")
THINGS = (1, 2, 3, 4)
EXTRAS = (1, 2)
CODES = ("c1", "c2", "c3", "c4")
TOO_LONG = "much too long a label"
#: Allows a rejection with any code.
ANY = frozenset({"*"})

#: The share of patches and of commands with conditions.
_EDITS = 0.3
_UNIQUE = "unique_violation"
_REFERENCE = "foreign_key_violation"
_LENGTH = "string_data_right_truncation"


def accepted_at(number: int) -> dt.datetime:
    """The acceptance time of the command with this number."""
    return FIRST + number * STEP


def id_of(number: int, *, create: bool) -> str:
    """The id of the command with this number."""
    return join_id(int(accepted_at(number).timestamp() * 1000), number << 1 | create)


@dataclass
class Draw:
    """Draws commands in the order of their ids."""

    random: random.Random
    #: The writing release, whether `things.label` is wide, and whether release 2 was ever used.
    release: int = 1
    is_wide: bool = False
    has_used_release_2: bool = False
    number: int = 0
    #: Every drawn command, by id.
    drawn: dict[str, Command] = field(default_factory=dict)
    #: Rejection codes possible because of a command's content; see `allowed`.
    _codes: dict[str, frozenset[str]] = field(default_factory=dict)

    def line(self) -> bytes:
        """Draw a line of the archive, usually a command."""
        if self.random.random() < 0.04:
            self.number += 1
            return b'{"v":1,"id":"half a command %d\n' % self.number
        return encode(self.command())

    def command(self) -> Command:
        """Draw a command of any resource."""
        if self.random.random() < _EDITS:
            return self._edit()
        resource = self.random.choice(["things"] * 5 + ["owners"] * 2 + ["extras"])
        if resource == "things":
            return self._thing()
        if resource == "owners":
            key, body = self.random.choice(OWNERS), {"note": self._note()}
            return self.make(self._op(), "owners", key, body)
        release = min(self.release, 1) if self.release == 2 else self.release
        return self.make(
            self._op(), "extras", self.random.choice(EXTRAS), {"note": self._note()}, release
        )

    def make(
        self,
        op: Op,
        resource: str,
        key: int | str,
        body: dict[str, Any] | None,
        release: int | None = None,
        *,
        condition: dict[str, Any] | None = None,
    ) -> Command:
        """Make the next command."""
        self.number += 1
        written_by = release or self.release
        command = Command(
            id=id_of(self.number, create=op == "create"),
            op=op,
            resource=resource,
            key=key,
            schema=written_by if resource == "things" else 1,
            by="test",
            trace=None,
            body=None if op == "delete" else body,
            condition=condition,
        )
        self.drawn[command.id] = command
        self._codes[command.id] = self._possible(command)
        return command

    def allowed(self, command_id: str) -> frozenset[str]:
        """The rejection codes possible for this command at this time."""
        codes = self._codes.get(command_id)
        if codes is None:
            return ANY  # an operator's amendment, or a line of an import
        command = self.drawn[command_id]
        if self.has_used_release_2 and command.resource == "extras":
            codes |= {"unknown_resource"}
        if self.has_used_release_2 and command.schema == 1 and _label(command) == UNLUCKY:
            codes |= {"upcast_failed"}
        return codes

    def thing_body(self) -> dict[str, Any]:
        """A body of a thing that is valid in every release."""
        return {
            "code": self.random.choice(CODES),
            "label": self.random.choice(["fine", "fair", UNLUCKY]),
            "owner": self.random.choice([None, None, *OWNERS]),
            "size": self.random.randrange(100),
        }

    def _thing(self) -> Command:
        body = self.thing_body()
        kind = self.random.random()
        if kind < 0.04:
            body["size"] = "large"
        elif kind < (0.4 if self.is_wide else 0.12):
            body["label"] = TOO_LONG
        release = self.release
        if release < LAST and self.random.random() < 0.08:
            release += 1  # the write function is deployed before the consumer
        return self.make(self._op(), "things", self.random.choice(THINGS), body, release)

    def _edit(self) -> Command:
        """Draw a patch, or a put or delete with a condition."""
        chance = self.random
        if chance.random() < 0.2:
            key, note = chance.choice(OWNERS), {"note": self._note()}
            return self.make("patch", "owners", key, note, condition=self._condition("owners"))
        body = self.thing_body()
        if chance.random() < 0.1:
            body["label"] = TOO_LONG
        ops: list[Op] = ["patch", "patch", "patch", "patch", "patch", "patch", "put", "delete"]
        op = chance.choice(ops)
        condition = self._condition("things")
        if op == "patch":
            body = {name: body[name] for name in chance.sample(sorted(body), chance.randint(1, 2))}
            if chance.random() < 0.3:
                body["size"] = {"$increment": chance.randint(-40, 40)}
        elif condition is None:
            condition = {"match": ["*"]}
        return self.make(op, "things", chance.choice(THINGS), body, condition=condition)

    def _condition(self, resource: str) -> dict[str, Any] | None:
        chance = self.random
        ids = [one.id for one in self.drawn.values() if one.resource == resource][-8:]
        seen = {"match": [chance.choice(ids)]} if ids else None
        where: dict[str, Any] = {"where": [["note", "is", None]]}
        if resource == "things":
            where = {"where": [["size", chance.choice(["lt", "gte"]), 50]]}
        return chance.choice([None, None, None, {"match": ["*"]}, seen, where])

    def _possible(self, command: Command) -> frozenset[str]:
        codes = self._possible_for_content(command)
        if command.condition is not None or isinstance((command.body or {}).get("size"), dict):
            codes |= {"precondition_failed", "increment_failed"}
        return codes

    def _possible_for_content(self, command: Command) -> frozenset[str]:
        body = command.body
        if command.resource == "owners":
            return frozenset({_REFERENCE}) if body is None else frozenset()
        if command.resource == "extras" or body is None:
            return frozenset()
        if isinstance(body.get("size"), str):
            return ANY
        codes = {_UNIQUE} if "code" in body else set()
        if body.get("owner") is not None:
            codes.add(_REFERENCE)
        if len(body.get("label", "")) > NARROW and not self.is_wide:
            codes.add(_LENGTH)
        return frozenset(codes)

    def _op(self) -> Op:
        ops: list[Op] = ["put", "put", "put", "create", "create", "delete"]
        return self.random.choice(ops)

    def _note(self) -> str | None:
        return self.random.choice([None, "one", "two"])


def _label(command: Command) -> str | None:
    label = (command.body or {}).get("label")
    return label if isinstance(label, str) else None
