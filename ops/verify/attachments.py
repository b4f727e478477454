"""Compare the attachments that rows name with the objects in their bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from psycopg import sql

from forebay.attachments import Upload
from forebay.db.connect import Connection
from forebay.resource.spec import FieldSpec, ResourceSpec
from ops.verify.compare import Findings

TABLE: Final = "attachments"


class ListsObjects(Protocol):
    """The bucket of attachments."""

    bucket: str

    def list_names(self, resource: str) -> Iterator[str]:
        """Yield the names of the objects that rows of a resource may name."""


@dataclass(slots=True)
class AttachmentCheck:
    """The rows that name an object, and those without their object."""

    rows: int = 0
    missing: int = 0
    #: True if there are rows with attachments, but no bucket is known.
    is_skipped: bool = False

    def run(
        self,
        connection: Connection,
        resources: Mapping[str, ResourceSpec],
        store: ListsObjects | None,
        findings: Findings,
    ) -> None:
        """Add a difference for each row that names a missing object.

        Objects are listed after the rows were read, so each object of a row is listed. The names
        of one resource's objects are kept in memory: about 150 MB for a million.

        Args:
            connection: to the database.
            resources: the declarations, by path.
            store: the bucket; None if it is not known.
            findings: get the differences.

        Raises:
            TransientError: S3 did not answer.
        """
        for spec in resources.values():
            named = [
                (field, *row)
                for field in spec.attachments
                for row in _read(connection, spec, field)
            ]
            self.rows += len(named)
            if store is None or not named:
                self.is_skipped |= store is None and bool(named)
                continue
            names = set(store.list_names(spec.path))
            for field, key, upload_id in named:
                name = Upload(spec.path, key, field.name, upload_id).object_name
                if name not in names:
                    self.missing += 1
                    findings.add(
                        f"public.{spec.table}",
                        str(key),
                        f"no object s3://{store.bucket}/{name}",
                        f"{field.name} names it",
                    )


def _read(connection: Connection, spec: ResourceSpec, field: FieldSpec) -> list[tuple[Any, str]]:
    statement = sql.SQL(
        "SELECT {key}, {field}->>'id' FROM public.{table} WHERE {field}->>'id' IS NOT NULL"
    ).format(
        key=sql.Identifier(spec.key.name),
        field=sql.Identifier(field.name),
        table=sql.Identifier(spec.table),
    )
    return [(key, upload_id) for key, upload_id in connection.execute(statement)]
