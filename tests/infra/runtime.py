"""Start functions from their packages, with only the libraries of the runtime on AWS."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Mapping
from importlib.metadata import files
from pathlib import Path

from infra.settings import PACKAGE_OF, PackageName
from tests.infra.templates import Synthesised, readable

#: The distributions that the runtime on AWS provides, as boto3 needs them.
RUNTIME = {"boto3", "botocore", "s3transfer", "jmespath", "urllib3", "python_dateutil", "six"}


def link(distributions: Iterable[str], folder: Path) -> Path:
    """Make a folder with these installed distributions and no others."""
    folder.mkdir()
    for distribution in distributions:
        for top in {file.parts[0] for file in files(distribution) or []} - {"..", "__pycache__"}:
            source = Path(sysconfig.get_path("purelib")) / top
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


def start(name: PackageName, *paths: Path) -> str:
    """A program that imports a function from the paths and prints the path of its handler."""
    return (
        f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}; "
        f"from lambdas.{name}.handler import lambda_handler as handler; "
        "print(sys.modules[handler.__module__].__file__)"
    )


def variables(environment: Synthesised, name: PackageName) -> Mapping[str, str]:
    """The environment variables of a package's function, and those that the runtime sets."""
    function = next(function for function, package in PACKAGE_OF.items() if package == name)
    own = environment.function(function)["Environment"]["Variables"]
    return {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        **{key: readable(value) for key, value in own.items()},
    }
