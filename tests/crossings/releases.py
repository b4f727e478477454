"""The resources of the histories in three releases, and the tables that all releases share.

The columns are the same in each release, so that a row does not depend on the release that wrote
it. Release 2 has two defects: it lacks `extras`, and its upcaster fails on some bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from forebay.resource import Key, References, Resource, ResourceSpec, Unique

#: A label of a thing on which the upcaster of release 2 fails.
UNLUCKY = "unlucky"
#: Length of the column `things.label` before and after it is widened. The declarations allow the
#: wide texts from the beginning.
NARROW, WIDE = 8, 40


def _fail_on_some(body: dict[str, Any]) -> dict[str, Any]:
    if body["label"] == UNLUCKY:
        raise ValueError("release 2 has a defect")
    return body


def _same(body: dict[str, Any]) -> dict[str, Any]:
    return body


class Owner(Resource, path="owners"):
    """Things refer to owners."""

    name: Annotated[str, Field(max_length=10), Key()]
    note: Annotated[str | None, Field(max_length=20)]


class Extra(Resource, path="extras"):
    """A resource that release 2 lacks."""

    number: Annotated[int, Field(ge=1, le=1000), Key()]
    note: Annotated[str | None, Field(max_length=20)]


class Thing(Resource, path="things"):
    """A thing in release 1."""

    number: Annotated[int, Field(ge=1, le=1000), Key()]
    code: Annotated[str, Field(max_length=10), Unique()]
    label: Annotated[str, Field(max_length=WIDE)]
    owner: Annotated[str | None, Field(max_length=10), References("owners", enforced=True)]
    size: Annotated[int, Field(ge=0, le=1000)]


class Thing2(
    Thing,
    path="things",
    schema_version=2,
    upcasters={1: _fail_on_some},
    patch_upcasters={1: _same},
):
    """A thing in release 2."""


class Thing3(
    Thing,
    path="things",
    schema_version=3,
    upcasters={1: _same, 2: _same},
    patch_upcasters={1: _same, 2: _same},
):
    """A thing in release 3."""


#: The declarations of each release, by path.
RELEASES: Mapping[int, Mapping[str, ResourceSpec]] = {
    1: {"owners": Owner.spec_, "extras": Extra.spec_, "things": Thing.spec_},
    2: {"owners": Owner.spec_, "things": Thing2.spec_},
    3: {"owners": Owner.spec_, "extras": Extra.spec_, "things": Thing3.spec_},
}
LAST = max(RELEASES)
