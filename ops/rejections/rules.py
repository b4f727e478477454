"""The rules of `rejections retry --fix`: which rejected commands they match, what they change.

A file of rules is TOML (docs/cli.md, "Rules that mend"). The first rule that matches a command is
the one that is used. What it changes is a document of three members, `resource`, `key` and `body`:
who sent a command, and when, is no rule's business.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from forebay.errors import SettingsError
from forebay.text_files import read_text_file
from ops.rejections import pointer
from ops.rejections.pointer import PatchError

JsonValue = bool | int | float | str | list[Any] | dict[str, Any]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise ValueError(f"is no regular expression: {exc}") from None
    return text


def _pointer(text: str) -> str:
    if not re.fullmatch(r"/(resource|key|body(/.*)?)", text, re.DOTALL):
        raise ValueError("must be /resource, /key or a JSON Pointer below /body")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Pointer = Annotated[str, AfterValidator(_pointer)]


class _Table(BaseModel):
    """A table of the file: frozen, of the exact types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Set(_Table):
    """Sets a value, whether there was one or not."""

    op: Literal["set"]
    path: Pointer
    value: JsonValue

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        pointer.put(document, self.path, copy.deepcopy(self.value))


class Default(_Table):
    """Sets a value where there is none, or null."""

    op: Literal["default"]
    path: Pointer
    value: JsonValue

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        if not pointer.has(document, self.path) or pointer.get(document, self.path) is None:
            pointer.put(document, self.path, copy.deepcopy(self.value))


class Null(_Table):
    """Sets null, for which TOML has no word."""

    op: Literal["null"]
    path: Pointer

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        pointer.put(document, self.path, None)


class Remove(_Table):
    """Takes out a value, which must be there."""

    op: Literal["remove"]
    path: Pointer

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        pointer.remove(document, self.path)


class Move(_Table):
    """Takes a value from one place to another, which is how a field is renamed."""

    op: Literal["move"]
    path: Pointer
    to: Pointer

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        pointer.put(document, self.to, pointer.remove(document, self.path))


class Substitute(_Table):
    r"""Replaces what a regular expression finds in a text; `\1` is its first group."""

    op: Literal["substitute"]
    path: Pointer
    pattern: Pattern
    by: str

    @model_validator(mode="after")
    def _fits_the_pattern(self) -> Substitute:
        try:
            re.sub(self.pattern, self.by, "")
        except (re.error, IndexError) as exc:
            raise ValueError(f"`by` does not fit the pattern: {exc}") from None
        return self

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        text = pointer.get(document, self.path)
        if not isinstance(text, str):
            raise PatchError(f"{self.path}: is {_shown(text)}, which is no text")
        pointer.put(document, self.path, re.sub(self.pattern, self.by, text))


class Cast(_Table):
    """Turns a scalar into another type."""

    op: Literal["cast"]
    path: Pointer
    to: Literal["text", "integer", "number", "boolean"]

    def change(self, document: dict[str, Any]) -> None:
        """Changes the document in place."""
        value = pointer.get(document, self.path)
        try:
            pointer.put(document, self.path, _CASTS[self.to](value))
        except (ValueError, TypeError, KeyError):
            raise PatchError(f"{self.path}: {_shown(value)} is no {self.to}") from None


Change = Annotated[
    Set | Default | Null | Remove | Move | Substitute | Cast, Field(discriminator="op")
]


class Match(_Table):
    """What a rule wants of a rejected command; all of it must hold."""

    resource: str | None = None
    op: Literal["create", "put", "delete"] | None = None
    #: The rejection's code.
    code: str | None = None
    #: Found in the rejection's detail.
    detail: Pattern | None = None
    #: Found in the key as text.
    key: Pattern | None = None
    #: By JSON Pointer into the body: found in the value, a text as it is, others as JSON.
    body: Mapping[str, Pattern] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Match:
        if not self.model_fields_set:
            raise ValueError("a rule must say what it matches, such as resource and code")
        return self

    def holds(self, rejected: Rejected) -> bool:
        """Whether the rule is for that command."""
        return (
            self.resource in {None, rejected.resource}
            and self.op in {None, rejected.op}
            and self.code in {None, rejected.code}
            and _found(self.detail, rejected.detail)
            and _found(self.key, str(rejected.key))
            and all(
                pointer.has(rejected.body, where)
                and _found(wanted, _text(pointer.get(rejected.body, where)))
                for where, wanted in self.body.items()
            )
        )


class Rejected(Protocol):
    """What a rule looks at."""

    @property
    def resource(self) -> str: ...  # noqa: D102
    @property
    def op(self) -> str: ...  # noqa: D102
    @property
    def key(self) -> int | str: ...  # noqa: D102
    @property
    def body(self) -> dict[str, Any] | None: ...  # noqa: D102
    @property
    def code(self) -> str: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102


class Rule(_Table):
    """One rule of the file."""

    name: Annotated[str, Field(min_length=1)]
    match: Match
    patch: Annotated[Sequence[Change], Field(min_length=1)]

    def mended(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with every change of the rule, in the file's order.

        Raises:
            PatchError: a change does not fit; the message names its pointer.
        """
        made = copy.deepcopy(document)
        for change in self.patch:
            change.change(made)
        return made


class _File(_Table):
    rule: Annotated[Sequence[Rule], Field(min_length=1)]


def load(file: Path) -> Sequence[Rule]:
    """The rules of a file, in order.

    Raises:
        SettingsError: it can't be read, is no TOML, or says something that is no rule; one line
            per problem, each with the place.
    """
    try:
        parsed = tomllib.loads(read_text_file(file))
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{file} is not valid TOML: {exc}") from exc
    try:
        return _File.model_validate(parsed).rule
    except ValidationError as exc:
        raise SettingsError("\n".join(_problem(file, error) for error in exc.errors())) from exc


def first_match(rules: Sequence[Rule], rejected: Rejected) -> Rule | None:
    """The rule that is used for a command, if any is for it."""
    return next((rule for rule in rules if rule.match.holds(rejected)), None)


def _problem(file: Path, error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    reason = error["ctx"]["error"] if error["type"] == "value_error" else error["msg"]
    return f"{file}: {where}: {reason}"


def _found(pattern: str | None, text: str) -> bool:
    return pattern is None or re.search(pattern, text) is not None


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _shown(value: object) -> str:
    text = _text(value)
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - for the eye


def _integer(value: object) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)  # type: ignore[call-overload, no-any-return]


def _number(value: object) -> float:
    return float(value)  # type: ignore[arg-type]


def _boolean(value: object) -> bool:
    return _BOOLEANS[_text(value).strip().lower()]


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CASTS = {"text": _text, "integer": _integer, "number": _number, "boolean": _boolean}
