"""Refuse, before the cache, the requests that the cache can't distinguish.

In production a CloudFront Function in front of the stage does this. The stage cache keys on
declared parameters only, and on one value of each. If an undeclared or repeated query parameter
reached the function, it would answer 400, and the stage would cache this 400 under the key of the
valid request without the parameter: any client could poison that entry for a TTL. So the edge
refuses such a request, and caches no refusal.
"""

from collections import Counter
from collections.abc import Iterable
from urllib.parse import unquote

from forebay.edge import HINT_JSON, HINT_RELATED, HINT_REPEATED, LONGEST_NAME, find_nearest
from forebay.problem import Problem
from local.gateway.deployed import Deployed, Method, split_path
from local.gateway.messages import Answer, Incoming, build_problem_answer


def find_refusal(method: Method, request: Incoming) -> Answer | None:
    """Return the 400 for undeclared or repeated query parameters, or None.

    Queries are not checked for methods other than GET without declared parameters, nor for a GET
    that the path does not have, which is answered 405.
    """
    if method.http_method == "ANY" or (request.method != "GET" and not method.declared):
        return None
    allowed = sorted(method.query_names)
    unknown = [name for name, _ in request.query if name not in allowed]
    if unknown:
        known_names = f"it has {_quote(allowed)}" if allowed else "it has no parameters"
        detail = f"This resource has no query parameter {_quote(unknown)}; {known_names}."
        hint = _choose_hint(unknown)
        return _refuse(Problem("unknown_parameter", detail, hint=hint), request, unknown, allowed)
    counts = Counter(name for name, _ in request.query)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        names = _quote(repeated)
        detail = f"The query parameter {names} is given more than once; send it once."
        problem = Problem("repeated_parameter", detail, hint=HINT_REPEATED)
        return _refuse(problem, request, repeated, allowed)
    return None


def find_unknown_resource(deployed: Deployed, request: Incoming, below: str) -> Answer | None:
    """Return the 404 for reading a resource that does not exist at a path below the stage."""
    segments = [unquote(segment) for segment in split_path(below)]
    if request.method not in {"GET", "HEAD"} or not segments:
        return None
    name, names = segments[0], deployed.first_segments
    if name in names:
        return None
    suggestion = find_nearest(name, names)
    problem = Problem(
        "PGRST205",
        f"The resource `{name[:LONGEST_NAME]}` does not exist; the page docs lists all.",
        hint=suggestion and f"Perhaps you mean `{suggestion}`.",
    )
    return build_problem_answer(problem, request.path)


def _choose_hint(unknown: list[str]) -> str | None:
    if any("->" in name for name in unknown):
        return HINT_JSON
    return HINT_RELATED if any("." in name for name in unknown) else None


def _refuse(
    problem: Problem, request: Incoming, names: Iterable[str], allowed: list[str]
) -> Answer:
    return build_problem_answer(
        problem,
        request.path,
        parameters=list(dict.fromkeys(names)),
        allowed=allowed,
    )


def _quote(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))
