"""The check of attachments in a client's JSON: only values that the server made are accepted.

The value names an object below the prefix of this resource, key and field, where no client can
write. It is accepted if S3 describes that object just so, which no client can forge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from forebay.attachments import Claimed, Upload
from forebay.command import Body, KeyValue
from forebay.ids import is_command_id
from forebay.problem import Problem, ProblemError
from forebay.resource.body import Fault, format_pointer
from forebay.resource.spec import ResourceSpec


class FindsAttachments(Protocol):
    """The bucket of attachments, as the check needs it."""

    def find(self, upload: Upload) -> Claimed | None:
        """The object of an upload that was claimed.

        Raises:
            TransientError: S3 did not answer.
        """


class AttachmentCheck:
    """Checks the attachments in bodies."""

    def __init__(self, store: FindsAttachments | None) -> None:
        """Create the check; without a bucket it accepts null only."""
        self._store = store

    def check(self, spec: ResourceSpec, key: KeyValue, body: Body) -> None:
        """Refuse a body with an attachment that is not one of the item's.

        Raises:
            ProblemError: validation_failed, with a fault for each such field.
            TransientError: S3 did not answer.
        """
        faults = list(self._find_faults(spec, key, body))
        if faults:
            raise ProblemError(
                Problem(
                    "validation_failed",
                    f"the item is no valid {spec.name}: an attachment is not one of this item",
                    [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults],
                )
            )

    def _find_faults(self, spec: ResourceSpec, key: KeyValue, body: Body) -> Iterator[Fault]:
        for field in spec.attachments:
            value = body.get(field.name)
            if value is None:
                continue
            pointer = format_pointer((field.name,))
            if self._store is None:
                yield Fault(pointer, "attachments are disabled in this environment; send null")
            elif not self._is_own(self._store, spec, key, field.name, value):
                link = f"POST to the item's path with /{field.name}"
                yield Fault(
                    pointer,
                    "send null, or the value exactly as this item had it; to set another, "
                    f"upload it: {link}",
                )

    @staticmethod
    def _is_own(
        store: FindsAttachments, spec: ResourceSpec, key: KeyValue, field: str, value: Body
    ) -> bool:
        if not is_command_id(value["id"]):
            return False
        upload = Upload(spec.path, key, field, value["id"])
        claimed = store.find(upload)
        return claimed is not None and claimed.describe(upload) == value
