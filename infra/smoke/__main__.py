"""`make smoke URL=…`: test a deployed API from outside; it only reads, unless WRITE is given.

Exit codes: 0 all steps succeeded; 1 a step failed; 2 wrong usage, or no server answered.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from forebay.errors import ForebayError, SettingsError
from infra.preflight.findings import Finding, State
from infra.smoke import reading
from infra.smoke.client import SmokeClient, parse_url
from infra.smoke.token import fetch_token
from infra.smoke.writing import choose_item, write_and_delete

_FAILED = 1
_UNUSABLE = 2
_WORDS = {State.OK: "ok", State.WARNING: "warning", State.WILL_FAIL: "failed"}


def main(arguments: list[str], env: Mapping[str, str]) -> int:
    """Run the steps, print a line for each, and return the exit code.

    Args:
        arguments: of the command line.
        env: `KEY` and `TOKEN` are the caller's credentials; command lines are visible to others.
            With `TOKEN_URL`, a token is fetched with `CLIENT_ID` and `CLIENT_SECRET`.
    """
    parser = argparse.ArgumentParser(prog="make smoke", description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--write", metavar="RESOURCE", help="create and delete one item")
    parser.add_argument("--item", help="the item as JSON; needed for a natural key")
    options = parser.parse_args(arguments)
    findings = []
    try:
        client = SmokeClient(parse_url(options.url), _read_credentials(env))
        for finding in run_steps(client, options.write, _parse_item(options.item)):
            findings.append(finding)
            print(_format(finding), flush=True)  # noqa: T201 - the command's output
    except ForebayError as error:
        sys.stderr.write(f"forebay: {error}\n")
        return _UNUSABLE
    return _FAILED if any(one.state is State.WILL_FAIL for one in findings) else 0


def run_steps(
    client: SmokeClient, write: str | None, item: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """The findings of all steps; without `write`, every request only reads.

    Raises:
        ForebayError: no server answered, or the item to write is unsuitable.
    """
    yield from reading.check_root(client)
    description = reading.read_description(client)
    yield from reading.check_description(description)
    yield from reading.check_health(client)
    yield from reading.check_problem(client)
    names = reading.list_resources(description) if description else []
    yield from reading.check_lists(client, names)
    if names:
        yield from reading.check_preflight_request(client, names[0])
        yield from reading.check_cache(client, names[0])
        yield from reading.check_stranger(client, names[0])
    if write is not None:
        key, chosen = choose_item(description, write, item)
        yield from write_and_delete(client, write, key, chosen)


def _read_credentials(env: Mapping[str, str]) -> dict[str, str]:
    credentials = {}
    if env.get("KEY"):
        credentials["x-api-key"] = env["KEY"]
    if token := env.get("TOKEN") or fetch_token(env):
        credentials["Authorization"] = f"Bearer {token}"
    return credentials


def _parse_item(text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        item = json.loads(text)
    except ValueError as exc:
        raise SettingsError(f"ITEM is not JSON: {exc}") from exc
    if not isinstance(item, dict):
        raise SettingsError("ITEM must be a JSON object")
    return item


def _format(finding: Finding) -> str:
    line = f"{_WORDS[finding.state]:<7}  {finding.check}: {finding.object}: {finding.detail}"
    return f"{line}; {finding.next_step}" if finding.next_step else line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
