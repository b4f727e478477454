"""Quotas of AWS that grow with the resources, counted when the templates are made.

A quota that AWS raises on request gives a warning, and a setting names the raised value; the others
stop the synthesis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from forebay.errors import SettingsError
from forebay.routes import Route

#: Amazon API Gateway API reference, `PutRestApi`: the size of a definition.
MAX_DEFINITION_BYTES: Final = 6_000_000
#: Amazon Cognito, `ResourceServerType`: scopes of a resource server.
MAX_SCOPES: Final = 100
#: Amazon Cognito, `CreateUserPoolClient`: scopes of an app client.
MAX_CLIENT_SCOPES: Final = 50
#: AWS CloudFormation quotas: the size of a template.
MAX_TEMPLATE_BYTES: Final = 1_000_000


def count_paths(routes: Iterable[Route]) -> int:
    """The number of API Gateway's resources: one for each path, and each beginning of one."""
    beginnings: set[tuple[str, ...]] = {()}
    for route in routes:
        segments = tuple(route.path.strip("/").split("/"))
        beginnings |= {segments[:length] for length in range(1, len(segments) + 1)}
    return len(beginnings - {("",)})


def find_path_warning(routes: Sequence[Route], quota: int) -> str | None:
    """The sentence for an API with more of API Gateway's resources than the quota; or None."""
    count = count_paths(routes)
    if count <= quota:
        return None
    return (
        f"The API needs {count} resources of API Gateway, but the quota `Resources per API` is "
        f"{quota}. Before you deploy, request a higher quota (Service Quotas, Amazon API Gateway), "
        f"and set api.resources_quota to it; otherwise the deployment fails."
    )


def check_definition(size: int) -> None:
    """Check the size of an API's definition.

    Raises:
        SettingsError: API Gateway would refuse it.
    """
    if size > MAX_DEFINITION_BYTES:
        raise SettingsError(
            f"the API's definition has {size} bytes, but API Gateway imports at most "
            f"{MAX_DEFINITION_BYTES}, and AWS does not raise this quota: declare fewer resources, "
            "relations or fields"
        )


def check_scopes(scopes: Sequence[str], clients: Mapping[str, Sequence[str]]) -> None:
    """Check the numbers of scopes of a user pool.

    Args:
        scopes: the API's scopes.
        clients: the scopes of each client by the client's name.

    Raises:
        SettingsError: Cognito would refuse them.
    """
    way = "give resources that the same callers use one scope_group (docs/resources.md)"
    if len(scopes) > MAX_SCOPES:
        raise SettingsError(
            f"the API has {len(scopes)} scopes, but a resource server of Cognito has at most "
            f"{MAX_SCOPES}, and AWS does not raise this quota: {way}"
        )
    for name, granted in clients.items():
        if len(granted) > MAX_CLIENT_SCOPES:
            raise SettingsError(
                f"the client {name} of the user pool has {len(granted)} scopes, but Cognito allows "
                f"at most {MAX_CLIENT_SCOPES}, and AWS does not raise this quota: grant fewer, or "
                f"{way}"
            )


def check_template(stack: str, size: int) -> None:
    """Check the size of a stack's template.

    Raises:
        SettingsError: CloudFormation would refuse it.
    """
    if size > MAX_TEMPLATE_BYTES:
        raise SettingsError(
            f"the template of {stack} has {size} bytes, but CloudFormation accepts at most "
            f"{MAX_TEMPLATE_BYTES}, and AWS does not raise this quota: declare fewer resources"
        )
