"""Check the declarations against the recorded shapes of earlier versions, and record them."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import resources
from forebay.errors import DeclarationError
from forebay.resource import shape
from forebay.resource.shape import Recorded
from forebay.resource.spec import ResourceSpec
from local.errors import DeclarationsError
from local.migrations import run_alembic
from local.settings import ROOT

#: The number of bodies of each earlier version that an upcaster is tested with.
_EXAMPLES = 100
_EXAMPLES_AT_START = 20


def read_shapes(root: Path = ROOT) -> dict[str, Recorded]:
    """Return the shapes recorded in a checkout; empty if there is no such file yet.

    Raises:
        forebay.errors.DeclarationError: the file is damaged.
    """
    file = root / shape.FILE
    return shape.load(file.read_bytes()) if file.is_file() else {}


def check(root: Path = ROOT) -> int:
    """Run `make check`; return 1, with every problem on standard error, or 0."""
    specs, shapes = resources.load(), read_shapes(root)
    problems = [*shape.find_problems(shapes, specs), *find_upcaster_problems(shapes, specs)]
    if not problems and _update_shapes(shapes, specs) != shapes:
        problems.append(f"{shape.FILE} is not up to date: run make migration, and commit the file")
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def write_migration(message: str, root: Path = ROOT) -> int:
    """Run `make migration`: write the missing migration, record the shapes, return the exit code.

    Raises:
        DeclarationsError: archived bodies would not fit; no file was written.
        LocalStackError: there is no database to compare with.
    """
    specs, shapes = resources.load(), read_shapes(root)
    problems = [*shape.find_problems(shapes, specs), *find_upcaster_problems(shapes, specs)]
    if problems:
        raise DeclarationsError("\n".join(problems))
    code = run_alembic(["revision", "--autogenerate", "-m", message])
    if code == 0:
        # Not earlier: the migration may drop what the record contains.
        (root / shape.FILE).write_bytes(shape.dump(_update_shapes(shapes, specs)))
    return code


def check_before_start(root: Path) -> None:
    """Test the upcasters with a few bodies.

    Raises:
        DeclarationsError: an upcaster is wrong, or a declaration can't work.
    """
    try:
        problems = list(
            find_upcaster_problems(read_shapes(root), resources.load(), examples=_EXAMPLES_AT_START)
        )
    except DeclarationError as exc:
        raise DeclarationsError(str(exc)) from exc
    if problems:
        raise DeclarationsError("\n".join(problems))


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
                from local.upcasters import try_patch_upcasters, try_upcasters  # noqa: PLC0415

                yield from try_upcasters(spec, version, old, examples)
                yield from try_patch_upcasters(spec, version, old, examples)


def _update_shapes(
    shapes: Mapping[str, Recorded], specs: Mapping[str, ResourceSpec]
) -> dict[str, Recorded]:
    from forebay.db.schema import index_names  # noqa: PLC0415 - SQLAlchemy

    return shape.update_record(shapes, specs, index_names(specs))
