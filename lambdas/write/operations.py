"""`POST /commands`: makes commands of any operation on any resource, in the request's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from jiter import LosslessFloat

from forebay.access import Access, write_scope
from forebay.conditional import EXISTS
from forebay.conditions import MAX_COMPARISONS, MAX_VALUES, Condition, is_condition
from forebay.intake.commands import CommandMaker, Line, Origin
from forebay.intake.json_text import JsonText, dump
from forebay.problem import Problem, ProblemError
from forebay.resource import spellings
from forebay.resource.body import INT64_MAX, INT64_MIN
from forebay.resource.spec import Kind, ResourceSpec
from lambdas.write.requests import is_ahead, parse_version_tag, read_tag

_OPS: Final = ("create", "put", "patch", "delete")
#: The members of a condition.
_CONDITIONS: Final = ("if_match", "if")
_COMPARISON_SIZE: Final = 3
_INT64_DIGITS: Final = 19
_MEMBERS: Final = frozenset({"op", "resource", "key", "body", *_CONDITIONS})


class OperationMaker:
    """Makes the commands of operations.

    Their members are `op`, `resource`, `key`, `body`, `if_match` and `if`.
    """

    def __init__(
        self, resources: Mapping[str, ResourceSpec], commands: CommandMaker, access: Access
    ) -> None:
        self._resources = resources
        self._commands = commands
        self._access = access

    def make(
        self,
        operation: JsonText,
        origin: Origin,
        context: Mapping[str, Any],
        *,
        name: str,
        now_ms: int,
    ) -> Line:
        """Make the command of an operation.

        Args:
            operation: the operation as sent.
            origin: of the request's commands.
            context: `requestContext` of the proxy event, which has the caller's scopes.
            name: distinguishes operations with the same idempotency key.
            now_ms: the time, which bounds the versions in `if_match`.

        Raises:
            ProblemError: the operation is refused; pointers of faults begin at the operation.
        """
        members = _check_members(operation.value)
        path = members["resource"]
        spec = self._resources.get(path) if isinstance(path, str) else None
        if spec is None:
            paths = ", ".join(sorted(self._resources))
            raise _build_operation_error(
                ("#/resource", f"{str(path)[:80]!a} is not one of {paths}")
            )
        self._access.require(context, {spec.path: write_scope(spec.scope_group)})
        condition = _read_condition_members(spec, members, now_ms)
        if condition is not None:
            seen = [
                version
                for version in map(parse_version_tag, condition.match)
                if version is not None
            ]
            after = max([*seen, origin.after or ""])
            origin = replace(origin, after=after or None)
        try:
            return self._make_line(spec, members, origin, name, condition)
        except ProblemError as exc:
            raise ProblemError(_move_faults(exc.problem, spec, members)) from None

    def _make_line(
        self,
        spec: ResourceSpec,
        members: Mapping[str, Any],
        origin: Origin,
        name: str,
        condition: Condition | None,
    ) -> Line:
        item = _build_item(spec, members)
        match members["op"]:
            case "delete":
                return self._commands.delete_item(spec, item, origin, condition=condition)
            case "patch":
                return self._commands.patch_item(spec, item, origin, condition=condition)
            case "create" if "key" not in members:
                return self._commands.create(spec, item, origin, name=name)
            case op:
                return self._commands.put_item(
                    spec, item, origin, create=op == "create", condition=condition
                )


def _check_members(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Check the form of an operation: its members, and the members that its `op` requires."""
    if not isinstance(value, dict):
        raise _build_operation_error(("#", "Input should be an object"))
    faults = [
        (f"#/{name}", "Extra inputs are not permitted") for name in value if name not in _MEMBERS
    ]
    op = value.get("op")
    if op not in _OPS:
        faults.append(("#/op", f"must be one of {', '.join(_OPS)}"))
    required = {"resource", "key" if op == "delete" else "body"}
    faults += [(f"#/{name}", "Field required") for name in sorted(required - value.keys())]
    if op == "delete" and value.get("body") is not None:
        faults.append(("#/body", "a delete has no body"))
    elif "body" in value and op != "delete" and not isinstance(value["body"], dict):
        faults.append(("#/body", "Input should be an object"))
    if op == "create":
        faults += [
            (f"#/{name}", "a create has no condition") for name in _CONDITIONS if name in value
        ]
    if faults:
        raise _build_operation_error(*faults)
    return value


def _read_condition_members(
    spec: ResourceSpec, members: Mapping[str, Any], now_ms: int
) -> Condition | None:
    """Read the members `if_match` and `if`; None without either."""
    if not any(name in members for name in _CONDITIONS):
        return None
    tags = _read_tags(members["if_match"], now_ms) if "if_match" in members else []
    where = members.get("if", [])
    if isinstance(where, list):
        where = [_convert_comparison(spec, comparison) for comparison in where]
    envelope = {"match": tags, "where": where}
    if not is_condition(envelope):
        limits = f"1 to {MAX_COMPARISONS} comparisons, and at most {MAX_VALUES} values in a list"
        raise _build_operation_error(
            ("#/if", f"must be a list of [field, operator, value]; {limits}")
        )
    condition = Condition.of_json(envelope)
    reason = condition.find_fault(spec)
    if reason is not None:
        raise _build_operation_error(("#/if", reason))
    return condition


def _read_tags(value: object, now_ms: int) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    tags = [tag for text in texts if isinstance(text, str) and (tag := read_tag(text)) is not None]
    if not tags or len(tags) < len(texts) or (EXISTS in tags and len(tags) > 1):
        expected = "must be `*`, an item's ETag, a command id, or a list of ETags and ids"
        raise _build_operation_error(("#/if_match", expected))
    if any(is_ahead(parse_version_tag(tag), now_ms) for tag in tags):
        raise _build_operation_error(("#/if_match", "names a version from the future"))
    return tags


def _convert_comparison(spec: ResourceSpec, comparison: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The comparison with its numbers in the form of an archived body."""
    if not isinstance(comparison, list) or len(comparison) != _COMPARISON_SIZE:
        return comparison
    name, operator, operand = comparison
    field = spec.column(name) if isinstance(name, str) else None
    kind = None if field is None else field.kind
    values = operand if isinstance(operand, list) else [operand]
    numbers = [_convert_number(value, kind, f"{name}") for value in values]
    return [name, operator, numbers if isinstance(operand, list) else numbers[0]]


def _convert_number(value: Any, kind: Kind | None, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """The number without rounding, as in an item: `5.0` is the integer 5.

    Raises:
        ProblemError: a double can't represent the number.
    """
    if isinstance(value, bool) or not isinstance(value, int | LosslessFloat):
        return value
    text = str(value)
    if kind is Kind.DECIMAL:
        return text if isinstance(value, LosslessFloat) or not _fits(value) else value
    if isinstance(value, int) and (_fits(value) or kind is not Kind.FLOAT):
        # A larger integer is no value of any other field; as text, it is refused as such.
        return value if _fits(value) else text
    try:
        if kind is Kind.INTEGER and (integer := _read_integral(text)) is not None:
            return integer
        return spellings.parse_double(text)
    except ValueError as exc:
        raise _build_operation_error(("#/if", f"{name}: {text[:80]} {exc}")) from None


def _fits(value: int) -> bool:
    return INT64_MIN <= value <= INT64_MAX


def _read_integral(text: str) -> int | None:
    """The 64-bit integer that a number with a fraction or an exponent is equal to, if any."""
    number = spellings.parse_decimal(text)
    if number != 0 and not 0 <= number.adjusted() < _INT64_DIGITS:
        return None
    is_integral = number == number.to_integral_value() and _fits(int(number))
    return int(number) if is_integral else None


def _build_item(spec: ResourceSpec, members: Mapping[str, Any]) -> JsonText:
    """The item of an operation, with the key as one of its members."""
    item = dict(members.get("body") or {})
    if "key" in members:
        key = members["key"]
        if item.get(spec.key.name, key) != key:
            detail = f"the body's key is {item[spec.key.name]!a}, the operation's {key!a}"
            fault = {"pointer": f"#/{spec.key.name}", "detail": detail}
            raise ProblemError(Problem("key_mismatch", detail, [fault]))
        item[spec.key.name] = key
    return JsonText(dump(item), item)


def _build_operation_error(*faults: tuple[str, str]) -> ProblemError:
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return ProblemError(
        Problem(
            "validation_failed",
            f"the operation is not valid: {count}",
            [{"pointer": pointer, "detail": detail} for pointer, detail in faults],
        )
    )


def _move_faults(problem: Problem, spec: ResourceSpec, members: Mapping[str, Any]) -> Problem:
    """The problem with an item, with pointers that begin at the operation."""
    key = f"#/{spec.key.name}"
    is_in_body = "key" not in members or spec.key.name in (members.get("body") or {})

    def move(pointer: str) -> str:
        if pointer == key and not is_in_body:
            return "#/key"
        return f"#/body{pointer.removeprefix('#')}"

    errors: Sequence[Mapping[str, str]] = [
        {**error, "pointer": move(error["pointer"])} for error in problem.errors
    ]
    return replace(problem, errors=errors)
