"""Settings of the API's front: authorization, domain and edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, Strict, model_validator

from infra.section import Section

#: The region of CloudFront, its web ACL and its certificates, wherever the API is.
EDGE_REGION: Final = "us-east-1"

# The variables of a function have 4 KB together (AWS: "Lambda quotas").
_PRINCIPALS_MAX_CHARACTERS: Final = 2_000

CacheTtl = Annotated[int, Field(ge=0, le=3600)]  # API Gateway's limit
Names = Annotated[tuple[str, ...], Strict(strict=False)]  # an array in TOML
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&*+.^_|~-]{1,64}$")]  # RFC 9110 §5.1
Arn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:[^:]+:[^:]*:\d{12}:.+$")]
PrincipalArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:(?:role|user)/[^*]+$")]


class PlanSettings(Section):
    """The limits of one API key."""

    rate_per_second: Annotated[int, Field(ge=1)]
    burst: Annotated[int, Field(ge=1)]
    requests_per_month: Annotated[int, Field(ge=1)]


class CacheSettings(Section):
    """The stage cache."""

    size_gigabytes: Literal["0.5", "1.6", "6.1", "13.5", "28.4", "58.2", "118", "237"]
    #: For every cached route that isn't listed below; 0 disables its cache.
    ttl_seconds: CacheTtl
    #: By route, as `countries.list` or `countries.item`.
    ttl_seconds_by_route: Mapping[str, CacheTtl] = Field(default_factory=dict)

    def ttl_of(self, route: str) -> int:
        """Seconds that answers of the named route may be cached; 0 if they may not."""
        return self.ttl_seconds_by_route.get(route, self.ttl_seconds)


class OpenSettings(Section):
    """No authorization; API keys may still be required."""

    kind: Literal["none"] = "none"


class CognitoSettings(Section):
    """Access tokens of a Cognito user pool, with a read and a write scope per resource."""

    kind: Literal["cognito"]
    #: An existing pool; by default a new one is created.
    user_pool_arn: Arn | None = None
    #: The new pool's ARN, which a definition of the API needs that is too large for a template.
    created_pool_arn: Arn | None = None
    #: First label of the pool's own domain, where tokens are fetched.
    domain_prefix: (
        Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")] | None
    ) = None
    #: Addresses to which people are redirected after they sign in; if empty, people can't sign in.
    callback_urls: Names = ()
    #: Scopes available to people that sign in, as `cities.write`; every scope for reading by
    #: default.
    people_scopes: Names | None = None
    #: Programs with a secret of their own, and the scopes of each, as `cities.read`.
    machine_clients: Mapping[str, Names] = Field(default_factory=dict)
    #: True if a cached answer is shared by all callers that the authorizer accepts.
    shares_cache: bool = False

    @model_validator(mode="after")
    def _check_pools(self) -> Self:
        if self.user_pool_arn is not None and self.created_pool_arn is not None:
            raise ValueError(
                "user_pool_arn and created_pool_arn exclude each other: the first names an "
                "existing pool, the second the pool that the identity stack has created"
            )
        return self

    @model_validator(mode="after")
    def _check_sign_in(self) -> Self:
        if self.people_scopes is not None and not self.callback_urls:
            raise ValueError(
                "people_scopes requires callback_urls: without them, people have no app client"
            )
        return self

    @model_validator(mode="after")
    def _check_domain_prefix(self) -> Self:
        if (self.callback_urls or self.machine_clients) and self.domain_prefix is None:
            raise ValueError(
                "domain_prefix is required, because callback_urls and machine_clients "
                "request their tokens there"
            )
        return self


class IamSettings(Section):
    """Requests signed with AWS credentials that may `execute-api:Invoke`."""

    kind: Literal["iam"]
    #: Principals that may read related resources through a resource that their policy allows, with
    #: the scopes of each, as `countries.read`. Policies match paths, and the function can't see
    #: them.
    principals: Mapping[PrincipalArn, Names] = Field(default_factory=dict)
    shares_cache: bool = False

    @model_validator(mode="after")
    def _check_principals(self) -> Self:
        size = sum(len(arn) + sum(map(len, scopes)) for arn, scopes in self.principals.items())
        if size > _PRINCIPALS_MAX_CHARACTERS:
            raise ValueError(
                f"principals has {size} characters, but a function accepts at most "
                f"{_PRINCIPALS_MAX_CHARACTERS}: list roles instead of users"
            )
        return self


class LambdaAuthorizerSettings(Section):
    """A custom function that checks the header Authorization."""

    kind: Literal["lambda"]
    function_arn: Arn
    #: How long a result is cached, which delays a revocation.
    verdict_seconds: CacheTtl = 300
    shares_cache: bool = False


AuthorizationSettings = Annotated[
    OpenSettings | CognitoSettings | IamSettings | LambdaAuthorizerSettings,
    Field(discriminator="kind"),
]


class DomainSettings(Section):
    """A custom domain."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+\.[a-z]{2,}$")]
    certificate_arn: Arn
    #: The zone in which the DNS record is created; None if it is managed elsewhere.
    hosted_zone_id: str | None = None

    @property
    def certificate_region(self) -> str:
        """The region of the certificate."""
        return self.certificate_arn.split(":")[3]


class ApiSettings(Section):
    """The settings of the REST API."""

    endpoint: Literal["regional", "edge", "private"] = "regional"
    #: The VPC endpoints from which a private API can be called.
    vpc_endpoint_ids: Names = ()
    authorization: AuthorizationSettings = OpenSettings()
    require_api_key: bool
    cors_allow_origin: str
    #: Headers that pages may send in addition to the API's own.
    cors_allow_headers: Annotated[tuple[HeaderName, ...], Strict(strict=False)] = ()
    #: The minimum size of a compressed answer, if the client accepts compression; AWS's maximum
    #: value, which no answer reaches, disables compression.
    compress_from_bytes: Annotated[int, Field(ge=0, le=10_485_760)] = 1024
    rate_per_second: Annotated[int, Field(ge=1)]
    burst: Annotated[int, Field(ge=1)]
    plan: PlanSettings
    cache: CacheSettings
    domain: DomainSettings | None = None
    #: False if the API declares no query parameters with a dot in their names (`not.and`,
    #: `country.name`), in case API Gateway does not accept them next to `and` and `name`.
    dotted_parameters: bool = True
    #: The account's quota of API Gateway's resources per API, if AWS has raised it.
    resources_quota: Annotated[int, Field(ge=300)] = 300
    #: Increase it to import the API's definition again, although the routes have not changed.
    definition_number: Annotated[int, Field(ge=1)] = 1

    def ttl_of(self, route: str) -> int:
        """Seconds that the stage cache may keep answers of the named cached route; 0 for none.

        A signature differs for each request, so an answer cached under it is never used again. A
        signature may also be in the query (AWS: "Signature Version 4"), which no cache key
        contains.
        """
        if isinstance(self.authorization, IamSettings) and not self.authorization.shares_cache:
            return 0
        return self.cache.ttl_of(route)

    @property
    def tells_callers_apart(self) -> bool:
        """True if the stage cache separates the callers' answers.

        The header Authorization is part of a cache key only if it is declared so (AWS: "Caching
        settings for REST APIs in API Gateway").
        """
        return not isinstance(self.authorization, OpenSettings) and (
            not self.authorization.shares_cache
        )

    @model_validator(mode="after")
    def _check_endpoints(self) -> Self:
        if (self.endpoint == "private") != bool(self.vpc_endpoint_ids):
            raise ValueError("endpoint = 'private' and vpc_endpoint_ids require each other")
        if self.endpoint == "private" and self.domain is not None:
            raise ValueError("domain must be absent if endpoint is 'private'")
        return self

    @model_validator(mode="after")
    def _check_plan(self) -> Self:
        if self.plan.rate_per_second > self.rate_per_second or self.plan.burst > self.burst:
            raise ValueError("the limits of plan must not exceed those of the stage")
        return self


class EdgeSettings(Section):
    """CloudFront and its web ACL in front of the API."""

    #: The maximum time that the edge caches an answer, in addition to the stage cache's.
    cache_seconds: Annotated[int, Field(ge=1, le=3600)] = 1
    #: Larger requests are refused. A function's request has 6 MB, with the body as a JSON string.
    max_body_bytes: Annotated[int, Field(ge=1_024_000, le=6 * 1024 * 1024)] = 4 * 1024 * 1024
    window_seconds: Literal[60, 120, 300, 600] = 300
    #: Requests of one client address in the window; WAF requires at least 10.
    requests_per_address: Annotated[int, Field(ge=10)]
    #: Limit for the same read by the same kind of client, over all addresses. All clients with one
    #: TLS library are of one kind.
    requests_per_signature: Annotated[int, Field(ge=10)]
    price_class: Literal["100", "200", "all"] = "100"
    domain: DomainSettings | None = None
    #: Names of the secrets by which the API recognises the edge. The edge sends the last. To
    #: change the secret, deploy with a second name, then without the first.
    origin_secrets: Annotated[Names, Field(min_length=1, max_length=2)] = ("1",)
    #: True if the API refuses requests that did not pass the edge. False while clients move from
    #: one address to the other.
    enforced: bool = True

    @model_validator(mode="after")
    def _check_signature_limit(self) -> Self:
        if self.requests_per_signature < self.requests_per_address:
            raise ValueError(
                "requests_per_signature must not be less than requests_per_address, "
                "because many addresses share a signature"
            )
        return self


def check_front(
    api: ApiSettings, edge: EdgeSettings | None, *, region: str, emulated: bool
) -> None:
    """Check that the settings of API, edge and region are compatible.

    Raises:
        ValueError: they contradict each other; the message gives the reason.
    """
    if edge is not None:
        if emulated:
            raise ValueError("edge must be absent: the emulator has no CloudFront")
        if api.endpoint != "regional":
            raise ValueError(
                "edge requires api.endpoint = 'regional', because 'edge' adds a second CloudFront"
            )
        if isinstance(api.authorization, IamSettings):
            # A signature covers the host (AWS: "Create a signed AWS API request"), which differs
            # behind CloudFront, and the query, which the edge's function rewrites.
            raise ValueError(
                "edge and api.authorization.kind = 'iam' exclude each other: "
                "a signature covers the host, and the edge requests another host"
            )
        if api.domain is not None:
            raise ValueError("api.domain must be absent if edge is given: use edge.domain")
        _check_certificate("edge.domain", edge.domain, EDGE_REGION)
    api_region = EDGE_REGION if api.endpoint == "edge" else region
    _check_certificate("api.domain", api.domain, api_region)
    if edge is not None:
        _check_rates(api, edge)


def _check_rates(api: ApiSettings, edge: EdgeSettings) -> None:
    """Refuse limits of the web ACL under which no client can use what its plan allows."""
    if not api.require_api_key:
        return  # without keys, no client has a plan
    planned = api.plan.rate_per_second * edge.window_seconds
    for key in ("requests_per_address", "requests_per_signature"):
        limit = getattr(edge, key)
        if limit < planned:
            raise ValueError(
                f"edge.{key} is {limit} in {edge.window_seconds} seconds, but "
                f"api.plan.rate_per_second allows a client {planned}, which may come from one "
                f"address and send one request again and again: raise edge.{key}, or lower "
                "api.plan.rate_per_second"
            )


def _check_certificate(key: str, domain: DomainSettings | None, region: str) -> None:
    if domain is not None and domain.certificate_region != region:
        raise ValueError(f"{key}.certificate_arn must name a certificate in {region}")
