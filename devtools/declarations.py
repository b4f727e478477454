"""Check the declarations against the recorded shapes of earlier versions, and record them."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import resources
from forebay.errors import DeclarationError
from forebay.resource import shape
from forebay.resource.shape import Recorded
from forebay.resource.spec import ResourceSpec

#: The number of bodies of each earlier version that an upcaster is tested with.
_EXAMPLES = 100
_EXAMPLES_AT_START = 20


def read_shapes(root: Path) -> dict[str, Recorded]:
    """Return the shapes recorded in a checkout; empty if there is no such file yet.

    Raises:
        forebay.errors.DeclarationError: the file is damaged.
    """
    file = root / shape.FILE
    return shape.load(file.read_bytes()) if file.is_file() else {}


def find_problems(root: Path) -> list[str]:
    """Return the reasons why archived bodies would not fit the declarations."""
    specs, shapes = resources.load(), read_shapes(root)
    return [*shape.find_problems(shapes, specs), *find_upcaster_problems(shapes, specs)]


def record_shapes(root: Path) -> None:
    """Add the declared shapes to the record of a checkout."""
    (root / shape.FILE).write_bytes(shape.dump(_update_shapes(root)))


def check(root: Path) -> int:
    """Run `make check`; return 1, with every problem on standard error, or 0."""
    problems = find_problems(root)
    if not problems and _update_shapes(root) != read_shapes(root):
        problems.append(f"{shape.FILE} is not up to date: run make migration, and commit the file")
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def check_before_start(root: Path) -> None:
    """Test the upcasters with a few bodies.

    Raises:
        forebay.errors.DeclarationError: an upcaster is wrong, or a declaration can't work.
    """
    problems = list(
        find_upcaster_problems(read_shapes(root), resources.load(), examples=_EXAMPLES_AT_START)
    )
    if problems:
        raise DeclarationError("\n".join(problems))


def find_upcaster_problems(
    recorded: Mapping[str, Recorded],
    declared: Mapping[str, ResourceSpec],
    *,
    examples: int = _EXAMPLES,
) -> Iterator[str]:
    """Yield the faults of the upcasters on bodies of the recorded shapes, each with the body.

    Args:
        recorded: by path.
        declared: by path.
        examples: how many bodies of each version are tested.
    """
    for path, spec in declared.items():
        versions = recorded[path].versions if path in recorded else {}
        for version, old in versions.items():
            if version < spec.schema_version:
                # Hypothesis takes a second to import, and few resources have an earlier version.
                from devtools.upcasters import try_patch_upcasters, try_upcasters  # noqa: PLC0415

                yield from try_upcasters(spec, version, old, examples)
                yield from try_patch_upcasters(spec, version, old, examples)


def _update_shapes(root: Path) -> dict[str, Recorded]:
    from forebay.db.schema import list_index_names  # noqa: PLC0415 - SQLAlchemy

    shapes, specs = read_shapes(root), resources.load()
    return shape.update_record(shapes, specs, list_index_names(specs))
