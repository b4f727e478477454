"""Refuses, ahead of the cache, the requests that the cache can't tell apart.

In production a CloudFront Function in front of the stage does this. The stage cache keys on
declared parameters only, and on one value of each. Were a query parameter that the method does not
declare, or one given twice, let through, the function would answer 400, and the stage would cache
this 400 under the key of the honest request without the parameter: anybody could poison it for a
TTL. So the refusal is made here, where nothing is cached.
"""

from collections import Counter
from collections.abc import Iterable

from forebay.edge import HINT_JSON, HINT_RELATED, HINT_REPEATED
from forebay.problem import Problem
from local.gateway.deployed import Method
from local.gateway.messages import Answer, Incoming, problem_answer


def refusal(method: Method, request: Incoming) -> Answer | None:
    """The 400 for a query that the method does not declare or that repeats itself, or None.

    A method other than GET that declares no parameter at all keeps its query to itself.
    """
    if request.method != "GET" and not method.declared:
        return None
    allowed = sorted(method.query_names)
    unknown = [name for name, _ in request.query if name not in allowed]
    if unknown:
        has = f"it has {_quoted(allowed)}" if allowed else "it has none"
        detail = f"This resource has no query parameter {_quoted(unknown)}; {has}."
        hint = _hint(unknown)
        return _refused(Problem("unknown_parameter", detail, hint=hint), request, unknown, allowed)
    counts = Counter(name for name, _ in request.query)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        names = _quoted(repeated)
        detail = f"The query parameter {names} is given more than once; give each one once."
        problem = Problem("repeated_parameter", detail, hint=HINT_REPEATED)
        return _refused(problem, request, repeated, allowed)
    return None


def _hint(unknown: list[str]) -> str | None:
    if any("->" in name for name in unknown):
        return HINT_JSON
    return HINT_RELATED if any("." in name for name in unknown) else None


def _refused(
    problem: Problem, request: Incoming, names: Iterable[str], allowed: list[str]
) -> Answer:
    return problem_answer(
        problem,
        request.path,
        to_read=request.method in {"GET", "HEAD"},
        parameters=list(dict.fromkeys(names)),
        allowed=allowed,
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))
