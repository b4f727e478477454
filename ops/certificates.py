"""The certificates of RDS, with which the tool verifies the servers of a deployed environment.

The functions have the same file in their packages, at another path. So the outputs of the stacks
contain `sslmode=verify-full` without a path, and the tool adds its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from forebay.db.iam import parse_region
from ops.errors import UsageError

#: Written by each synthesis that builds packages for AWS (infra/bundling.py).
BUNDLE: Final = Path(__file__).resolve().parents[1] / ".build" / "rds-ca-bundle.pem"
_RDS_DOMAIN: Final = ".rds.amazonaws.com"


def add_certificates(url: str, environment: Mapping[str, str], bundle: Path | None = None) -> str:
    """Return the URL of a database, with the file of the certificates if it needs one.

    The URL of another server, or with a file of its own, is unchanged, and so is every URL if
    libpq's variable PGSSLROOTCERT names a file.

    Args:
        url: in one of libpq's two forms.
        environment: the variables of the process.
        bundle: the file of the certificates; the checkout's by default.

    Raises:
        UsageError: the file is needed and does not exist.
        psycopg.ProgrammingError: the URL is invalid.
    """
    if _RDS_DOMAIN not in url or environment.get("PGSSLROOTCERT"):
        return url
    parameters = conninfo_to_dict(url)
    hosts = str(parameters.get("host") or "").split(",")
    is_verified = str(parameters.get("sslmode", "")).startswith("verify-")
    if not is_verified or "sslrootcert" in parameters or not any(map(parse_region, hosts)):
        return url
    bundle = bundle or BUNDLE
    if not bundle.is_file():
        raise UsageError(
            f"the certificates of RDS are not in {bundle}; `make synth` for an environment on AWS "
            "writes the file, or name another file with PGSSLROOTCERT"
        )
    if "://" not in url:
        return make_conninfo(url, sslrootcert=str(bundle))
    return f"{url}&sslrootcert={quote(str(bundle), safe='/')}"
