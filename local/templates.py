"""Makes the CloudFormation templates of every environment as the CDK's CLI does; checks them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin

from local import node

#: The app names its environments by their files.
_ENVIRONMENTS = Path("infra") / "environments"
#: What the one-machine stack is told by its supervisor.
_LOCAL_CONTEXT = {
    "database_url": "postgresql://forebay@127.0.0.1:5432/forebay",
    "replica_url": "postgresql://forebay@127.0.0.1:5433/forebay",
    "firehose_endpoint": "http://127.0.0.1:8082",
}
#: The CDK writes dependencies that follow from references a second time, as `DependsOn`.
_IGNORED = ("W3005",)


def check_templates(root: Path) -> int:
    """Synthesises every environment into `cdk.out/<environment>`, then asks cfn-lint.

    Nothing is asked of AWS. cfn-lint is large and needed by nothing else, so it is in an
    environment of its own, which uv makes from the lock file.

    Returns:
        0 where all of it is well; else the exit code of what failed.
    """
    env = node.environment(os.environ)
    names = sorted(file.stem for file in (root / _ENVIRONMENTS).glob("*.toml"))
    for name in names:
        sys.stderr.write(f"synthesising {name}\n")
        output = root / "cdk.out" / name
        context = _LOCAL_CONTEXT if name == "local" else {}
        words = [word for key, value in context.items() for word in ("-c", f"{key}={value}")]
        synth = ["synth", "--quiet", "-c", f"env={name}", *words, "--output", str(output)]
        failed = subprocess.call([*node.cdk_command(root), *synth], cwd=root, env=env)  # noqa: S603
        if failed:
            return failed
    templates = sorted(
        str(file) for name in names for file in (root / "cdk.out" / name).glob("*.template.json")
    )
    sys.stderr.write(f"checking {len(templates)} templates\n")
    return subprocess.call(_lint(templates), cwd=root, env=env)  # noqa: S603


def _lint(templates: Sequence[str]) -> list[str]:
    uv = [find_uv_bin(), "run", "--isolated", "--frozen", "--quiet", "--only-group", "templates"]
    return [*uv, "cfn-lint", "--ignore-checks", *_IGNORED, "--", *templates]
