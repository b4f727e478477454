"""The rules of `rejections retry --fix`: their conditions and their changes.

A file of rules is TOML (docs/cli.md, "Rules that mend"). The first rule that matches a command is
used. It changes a document with the members `resource`, `key` and `body`; a rule can't change the
caller or the time of a command.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import orjson
from jsonpointer import JsonPointer, JsonPointerException
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from forebay.command import Op
from forebay.errors import SettingsError
from forebay.text_files import read_text_file
from ops.rejections import pointer
from ops.rejections.pointer import PatchError

JsonValue = bool | int | float | str | list[Any] | dict[str, Any]


def _check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise ValueError(f"is not a regular expression: {exc}") from None
    return text


def _check_pointer(text: str) -> str:
    if not re.fullmatch(r"/(resource|key|body(/.*)?)", text, re.DOTALL):
        raise ValueError("must be /resource, /key or a JSON Pointer below /body")
    try:
        JsonPointer(text)
    except JsonPointerException as exc:
        raise ValueError(f"is not a JSON Pointer: {exc}") from None
    return text


Pattern = Annotated[str, AfterValidator(_check_pattern)]
Pointer = Annotated[str, AfterValidator(_check_pointer)]


class _Table(BaseModel):
    """A table of the file: frozen, with exact types and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Set(_Table):
    """Set a value, even if there is one."""

    op: Literal["set"]
    path: Pointer
    value: JsonValue

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        pointer.put(document, self.path, copy.deepcopy(self.value))


class Default(_Table):
    """Set a value if it is missing or null."""

    op: Literal["default"]
    path: Pointer
    value: JsonValue

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        if not pointer.has(document, self.path) or pointer.get(document, self.path) is None:
            pointer.put(document, self.path, copy.deepcopy(self.value))


class Null(_Table):
    """Set null, which TOML can't express."""

    op: Literal["null"]
    path: Pointer

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        pointer.put(document, self.path, None)


class Remove(_Table):
    """Remove a value, which must exist."""

    op: Literal["remove"]
    path: Pointer

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        pointer.remove(document, self.path)


class Move(_Table):
    """Move a value to another pointer, for example to rename a field."""

    op: Literal["move"]
    path: Pointer
    to: Pointer

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        pointer.put(document, self.to, pointer.remove(document, self.path))


class Substitute(_Table):
    r"""Replace the matches of a regular expression in a text; `\1` is its first group."""

    op: Literal["substitute"]
    path: Pointer
    pattern: Pattern
    by: str

    @model_validator(mode="after")
    def _check_replacement(self) -> Substitute:
        try:
            re.sub(self.pattern, self.by, "")
        except (re.error, IndexError) as exc:
            raise ValueError(f"`by` does not fit the pattern: {exc}") from None
        return self

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        text = pointer.get(document, self.path)
        if not isinstance(text, str):
            raise PatchError(f"{self.path}: {_shorten(text)} is not a text")
        pointer.put(document, self.path, re.sub(self.pattern, self.by, text))


class Cast(_Table):
    """Convert a scalar to another type."""

    op: Literal["cast"]
    path: Pointer
    to: Literal["text", "integer", "number", "boolean"]

    def change(self, document: dict[str, Any]) -> None:
        """Change the document in place."""
        value = pointer.get(document, self.path)
        try:
            pointer.put(document, self.path, _CASTS[self.to](value))
        except (ValueError, TypeError, KeyError):
            raise PatchError(
                f"{self.path}: {_shorten(value)} can't be converted to {self.to}"
            ) from None


Change = Annotated[
    Set | Default | Null | Remove | Move | Substitute | Cast, Field(discriminator="op")
]


class Match(_Table):
    """The conditions of a rule on a rejected command; all of them must hold."""

    resource: str | None = None
    op: Op | None = None
    #: The rejection's code.
    code: str | None = None
    #: Searched in the rejection's detail.
    detail: Pattern | None = None
    #: Searched in the key as text.
    key: Pattern | None = None
    #: By JSON Pointer into the body: searched in the value; a text as it is, other values as JSON.
    body: Mapping[str, Pattern] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _require_condition(self) -> Match:
        if not self.model_fields_set:
            raise ValueError("a rule needs a condition, such as resource or code")
        return self

    def holds(self, rejected: Rejected) -> bool:
        """Return whether a command meets all conditions."""
        return (
            self.resource in {None, rejected.resource}
            and self.op in {None, rejected.op}
            and self.code in {None, rejected.code}
            and _matches(self.detail, rejected.detail)
            and _matches(self.key, str(rejected.key))
            and all(
                pointer.has(rejected.body, where)
                and _matches(pattern, _to_text(pointer.get(rejected.body, where)))
                for where, pattern in self.body.items()
            )
        )


class Rejected(Protocol):
    """The properties of a rejected command that conditions can use."""

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

    def mend(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of the document with all changes of the rule, in the file's order.

        Raises:
            PatchError: a change does not fit the document; the message names the pointer.
        """
        changed = copy.deepcopy(document)
        for change in self.patch:
            change.change(changed)
        return changed


class _File(_Table):
    rule: Annotated[Sequence[Rule], Field(min_length=1)]


def load(file: Path) -> Sequence[Rule]:
    """Return the rules of a file, in order.

    Raises:
        SettingsError: the file can't be read, is not valid TOML, or has invalid rules; one line
            per problem, each with the place.
    """
    try:
        parsed = tomllib.loads(read_text_file(file))
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{file} is not valid TOML: {exc}") from exc
    try:
        return _File.model_validate(parsed).rule
    except ValidationError as exc:
        raise SettingsError(
            "\n".join(_describe_error(file, error) for error in exc.errors())
        ) from exc


def find_rule(rules: Sequence[Rule], rejected: Rejected) -> Rule | None:
    """Return the first rule with conditions that a command meets, if any."""
    return next((rule for rule in rules if rule.match.holds(rejected)), None)


def _describe_error(file: Path, error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    reason = error["ctx"]["error"] if error["type"] == "value_error" else error["msg"]
    return f"{file}: {where}: {reason}"


def _matches(pattern: str | None, text: str) -> bool:
    return pattern is None or re.search(pattern, text) is not None


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _shorten(value: object) -> str:
    text = _to_text(value)
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - a message stays short


def _to_integer(value: object) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)  # type: ignore[call-overload, no-any-return]


def _to_number(value: object) -> float:
    return float(value)  # type: ignore[arg-type]


def _to_boolean(value: object) -> bool:
    return _BOOLEANS[_to_text(value).strip().lower()]


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CASTS = {"text": _to_text, "integer": _to_integer, "number": _to_number, "boolean": _to_boolean}
