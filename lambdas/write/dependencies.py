"""Reads the commands that a write's condition or increment depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forebay.conditional import read_address
from forebay.conditions import MAX_COMPARISONS
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from lambdas.write.requests import WriteRequest


def read_dependencies(
    resources: Mapping[str, ResourceSpec], request: WriteRequest
) -> dict[tuple[str, str], Sequence[str]]:
    """The commands with a status path in `Read-After` or `If-Match`, by resource and key.

    An id alone may be of another item, so it is no dependency. An entity tag names a state that a
    replica has shown, so there is no command to wait for.

    Raises:
        ProblemError: the headers name more commands of an item than a condition can hold.
    """
    ids_by_target: dict[tuple[str, str], list[str]] = {}
    for text in ",".join([*request.read_after, *request.if_match]).split(","):
        address = read_address(text.strip().strip('"'))
        target = _read_target(resources, address[0], address[1]) if address is not None else None
        if address is not None and target is not None:
            ids_by_target.setdefault(target, []).append(address[2])
    if any(len(ids) > MAX_COMPARISONS for ids in ids_by_target.values()):
        detail = f"Read-After and If-Match name at most {MAX_COMPARISONS} commands of an item"
        raise ProblemError(Problem("bad_header", detail))
    return dict(ids_by_target)


def _read_target(
    resources: Mapping[str, ResourceSpec], path: str, key_text: str
) -> tuple[str, str] | None:
    spec = resources.get(path)
    if spec is None:
        return None
    try:
        return path, str(read_key(spec, key_text))
    except ProblemError:  # no command has such a key
        return None
