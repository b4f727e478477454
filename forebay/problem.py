"""Problems (RFC 9457): every error of the API, with its status and its stable code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONTENT_TYPE = "application/problem+json"
#: `type` is a URN, not a link: a deployment has no page of this project to link to.
#: docs/problems.md describes each code.
TYPE_PREFIX = "urn:forebay:problem:"

#: Code -> status and title. The code is the contract; the title is for people.
CATALOGUE: Mapping[str, tuple[int, str]] = {
    "malformed_json": (400, "The body is not JSON"),
    "duplicate_member": (400, "The body contains a member twice"),
    "malformed_form": (400, "The body is not a form"),
    "not_utf8": (400, "The body is not UTF-8"),
    "empty_body": (400, "The body is empty"),
    "empty_batch": (400, "The batch is empty"),
    "bad_key": (400, "The key is not valid for the resource"),
    "bad_command_id": (400, "The command id is not valid"),
    "bad_header": (400, "A header is not valid"),
    "bad_filter": (400, "A filter does not fit its column"),
    "bad_order": (400, "The order does not fit the resource"),
    "bad_select": (400, "The selection is not valid"),
    "bad_cursor": (400, "The cursor belongs to another query"),
    "unknown_parameter": (400, "The parameter does not exist"),
    "repeated_parameter": (400, "A parameter is given twice"),
    "answer_too_large": (400, "A row exceeds the maximum size of an answer"),
    "too_costly": (400, "The query is too expensive for the database"),
    "unknown_resource": (404, "The resource does not exist"),
    "not_found": (404, "The item does not exist"),
    "no_attachment": (404, "The item has no such attachment"),
    "attachments_disabled": (404, "The environment has no attachments"),
    # Codes in capitals are PostgREST's: its clients check for them.
    "PGRST204": (400, "The field does not exist"),
    "PGRST205": (404, "The resource does not exist"),
    "PGRST201": (300, "The relation is ambiguous"),
    "PGRST100": (400, "A parameter can't be parsed"),
    "PGRST108": (400, "The relation is not embedded"),
    "PGRST118": (400, "Rows can't be ordered by many related rows"),
    "PGRST122": (400, "A preference is unknown"),
    "PGRST123": (400, "Aggregate functions are not supported"),
    "PGRST127": (400, "A feature is not supported"),
    "PGRST200": (400, "The relation does not exist"),
    "method_not_allowed": (405, "The resource does not support this method"),
    "idempotency_in_flight": (409, "A request with this Idempotency-Key is in progress"),
    "PGRST107": (406, "No accepted media type is available"),
    "PGRST116": (406, "The result is not exactly one row"),
    "PGRST103": (416, "The range is beyond the last row"),
    "payload_too_large": (413, "The request is too large"),
    "command_too_large": (413, "The item is too large"),
    "batch_too_large": (413, "The batch has too many items"),
    "unsupported_media_type": (415, "The content type is not supported"),
    "validation_failed": (422, "The item is not valid"),
    "unstorable_text": (422, "The item contains text that can't be stored"),
    "too_deep": (422, "The item is nested too deeply"),
    "number_too_large": (422, "The item contains a number that can't be stored"),
    "empty_patch": (422, "The patch sets no field"),
    "key_mismatch": (422, "The key in the body is not the key in the path"),
    "key_missing": (422, "The item has no key"),
    "key_not_allowed": (422, "The server generates this key"),
    "idempotency_key_reused": (422, "The Idempotency-Key belongs to another request"),
    "forbidden": (403, "The caller is not allowed to do this"),
    # The gateway's own problems; the functions never return them.
    "bad_request": (400, "The request is not valid"),
    "unauthorized": (401, "Credentials are required"),
    "invalid_api_key": (403, "The API key is missing or not valid"),
    "throttled": (429, "Too many requests"),
    "quota_exceeded": (429, "The API key's quota is used up"),
    "not_accepted": (503, "The write was not accepted"),
    "attachments_unavailable": (503, "The bucket of attachments is not available"),
    "idempotency_unavailable": (503, "The idempotency records are not available"),
    "unavailable": (503, "The service is not available"),
    "timeout": (504, "The request took too long"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One error answer."""

    code: str
    detail: str
    #: For validation: `{"pointer", "detail"}` of each fault.
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    #: `details` and `hint` are members of PostgREST's errors, which its clients show.
    details: str | Sequence[Mapping[str, str]] | None = None
    hint: str | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return CATALOGUE[self.code][0]

    def document(self, instance: str) -> dict[str, Any]:
        """The problem's JSON document; `instance` is the request's path."""
        status, title = CATALOGUE[self.code]
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": title,
            "status": status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            # PostgREST's members; its clients show only these.
            "message": self.detail,
            "details": self._list_details(),
            "hint": self.hint,
        }
        if self.errors:
            document["errors"] = [dict(error) for error in self.errors]
        return document

    def _list_details(self) -> str | Sequence[Mapping[str, str]] | None:
        """The details, or the faults of an invalid item as text."""
        if self.details is not None or not self.errors:
            return self.details
        return "; ".join(f"{error['pointer']}: {error['detail']}" for error in self.errors)


class ProblemError(Exception):
    """Stops a request with a problem as its answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.detail}")
        self.problem = problem
