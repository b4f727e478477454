"""`POST /commands`: makes commands of any operation on any resource, in the request's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from forebay.access import Access, write_scope
from forebay.intake.commands import CommandMaker, Line, Origin
from forebay.intake.json_text import JsonText, dump
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec

_OPS: Final = ("create", "put", "delete")
_MEMBERS: Final = frozenset({"op", "resource", "key", "body"})


class OperationMaker:
    """Makes the commands of operations, which have the members `op`, `resource`, `key`, `body`."""

    def __init__(
        self, resources: Mapping[str, ResourceSpec], commands: CommandMaker, access: Access
    ) -> None:
        self._resources = resources
        self._commands = commands
        self._access = access

    def make(
        self, operation: JsonText, origin: Origin, context: Mapping[str, Any], *, name: str
    ) -> Line:
        """Make the command of an operation.

        Args:
            operation: the operation as sent.
            origin: of the request's commands.
            context: `requestContext` of the proxy event, which has the caller's scopes.
            name: distinguishes operations with the same idempotency key.

        Raises:
            ProblemError: the operation is refused; pointers of faults begin at the operation.
        """
        members = _check_members(operation.value)
        path = members["resource"]
        spec = self._resources.get(path) if isinstance(path, str) else None
        if spec is None:
            known = ", ".join(sorted(self._resources))
            raise _refuse(("#/resource", f"{str(path)[:80]!a} is not one of {known}"))
        self._access.require(context, [write_scope(spec.path)])
        try:
            return self._make_line(spec, members, origin, name)
        except ProblemError as exc:
            raise ProblemError(_move_faults(exc.problem, spec, members)) from None

    def _make_line(
        self, spec: ResourceSpec, members: Mapping[str, Any], origin: Origin, name: str
    ) -> Line:
        item = _build_item(spec, members)
        match members["op"]:
            case "delete":
                return self._commands.delete_item(spec, item, origin)
            case "create" if "key" not in members:
                return self._commands.create(spec, item, origin, name=name)
            case op:
                return self._commands.put_item(spec, item, origin, create=op == "create")


def _check_members(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Check the form of an operation: its members, and the members that its `op` requires."""
    if not isinstance(value, dict):
        raise _refuse(("#", "Input should be an object"))
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
    if faults:
        raise _refuse(*faults)
    return value


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


def _refuse(*faults: tuple[str, str]) -> ProblemError:
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
