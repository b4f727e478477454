"""The resources of this deployment; each module of the package declares resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.resource import Resources, package

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded


def load() -> Resources:
    """Return all resources by path; see `forebay.resource.package.load`."""
    return package.load(__name__, __path__[0])


def shapes() -> dict[str, Recorded]:
    """Return the recorded shapes by path; see `forebay.resource.package.load_shapes`."""
    return package.load_shapes(__path__[0])
