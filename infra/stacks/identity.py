"""IdentityStack: the callers' identities. It exists if the API accepts tokens of a user pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from forebay.access import RESOURCE_SERVER
from infra.components.authorization import read_scopes
from infra.components.findings import accept
from infra.front import CognitoSettings
from infra.quotas import check_scopes
from infra.settings import Settings
from infra.stacks.base import EnvironmentStack

ACCESS_TOKEN_MINUTES = 15


class IdentityStack(EnvironmentStack):
    """A user pool with the API's scopes, and the clients that fetch tokens from it."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Settings,
        cognito_settings: CognitoSettings,
        scopes: Sequence[str],
    ) -> None:
        super().__init__(scope, "identity", settings=settings, protected=True)
        self._cognito = cognito_settings
        self._pool = self._add_user_pool()
        #: Its ARN; a literal one if the settings name it.
        self.user_pool_arn = cognito_settings.created_pool_arn or self._pool.user_pool_arn
        machines, people = cognito_settings.machine_clients, self._choose_people_scopes(scopes)
        check_scopes(scopes, {**machines, "people": people})
        server, by_name = self._add_scopes(scopes)
        self._add_domain()
        for name, names in machines.items():
            self._add_machine(name, [by_name[scope] for scope in names], server)
        if cognito_settings.callback_urls:
            self._add_people([by_name[scope] for scope in people], server)
        self.add_output("UserPoolId", self._pool.user_pool_id)
        self.add_output("UserPoolArn", self._pool.user_pool_arn)

    def _choose_people_scopes(self, scopes: Sequence[str]) -> Sequence[str]:
        """The scopes of people that sign in; none if they can't."""
        if not self._cognito.callback_urls:
            return ()
        chosen = self._cognito.people_scopes
        return read_scopes(scopes) if chosen is None else chosen

    def _add_user_pool(self) -> cognito.IUserPool:
        if self._cognito.user_pool_arn is not None:
            return cognito.UserPool.from_user_pool_arn(
                self, "Existing", self._cognito.user_pool_arn
            )
        pool = cognito.UserPool(
            self,
            "UserPool",
            user_pool_name=self.settings.prefix,
            # People are invited: with self sign-up, anyone could get the scopes for people.
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            mfa=cognito.Mfa.REQUIRED,
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            password_policy=cognito.PasswordPolicy(
                min_length=12,
                require_digits=True,
                require_lowercase=True,
                require_uppercase=True,
                require_symbols=True,
            ),
            feature_plan=cognito.FeaturePlan.ESSENTIALS,
            deletion_protection=not self.settings.emulated,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        accept(
            pool,
            {
                "AwsSolutions-COG3": "Threat protection requires the plan Plus, which costs more "
                "than the rest of the pool; sign-ins require a second factor instead.",
                "AwsSolutions-COG8": "The plan Essentials contains all required features.",
            },
        )
        return pool

    def _add_scopes(
        self, scopes: Sequence[str]
    ) -> tuple[cognito.UserPoolResourceServer, Mapping[str, cognito.OAuthScope]]:
        server_scopes = {
            name: cognito.ResourceServerScope(scope_name=name, scope_description=_describe(name))
            for name in scopes
        }
        server = cognito.UserPoolResourceServer(
            self,
            "Scopes",
            user_pool=self._pool,
            identifier=RESOURCE_SERVER,
            scopes=list(server_scopes.values()),
        )
        return server, {
            name: cognito.OAuthScope.resource_server(server, scope)
            for name, scope in server_scopes.items()
        }

    def _add_domain(self) -> None:
        if self._cognito.domain_prefix is not None:
            cognito.UserPoolDomain(
                self,
                "Domain",
                user_pool=self._pool,
                cognito_domain=cognito.CognitoDomainOptions(
                    domain_prefix=self._cognito.domain_prefix
                ),
            )

    def _add_machine(
        self, name: str, scopes: Sequence[cognito.OAuthScope], server: Construct
    ) -> None:
        """Create the client of a program: it has a secret, and each of its tokens is billed."""
        client = cognito.UserPoolClient(
            self,
            f"Machine-{name}",
            user_pool=self._pool,
            user_pool_client_name=f"{self.settings.prefix}-{name}",
            generate_secret=True,
            # By default all flows are enabled.
            auth_flows=cognito.AuthFlow(user=False),
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(client_credentials=True), scopes=list(scopes)
            ),
            access_token_validity=cdk.Duration.minutes(ACCESS_TOKEN_MINUTES),
            prevent_user_existence_errors=True,
        )
        client.node.add_dependency(server)
        self.add_output(f"ClientId{name.title().replace('-', '')}", client.user_pool_client_id)

    def _add_people(self, scopes: Sequence[cognito.OAuthScope], server: Construct) -> None:
        """Create the client for browsers: without a secret, protected by PKCE (RFC 7636)."""
        client = cognito.UserPoolClient(
            self,
            "People",
            user_pool=self._pool,
            user_pool_client_name=f"{self.settings.prefix}-people",
            generate_secret=False,
            auth_flows=cognito.AuthFlow(user_srp=True),
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[cognito.OAuthScope.OPENID, *scopes],
                callback_urls=list(self._cognito.callback_urls),
            ),
            access_token_validity=cdk.Duration.minutes(ACCESS_TOKEN_MINUTES),
            id_token_validity=cdk.Duration.minutes(ACCESS_TOKEN_MINUTES),
            refresh_token_validity=cdk.Duration.days(1),
            enable_token_revocation=True,
            prevent_user_existence_errors=True,
        )
        client.node.add_dependency(server)
        self.add_output("ClientIdPeople", client.user_pool_client_id)


def _describe(scope: str) -> str:
    resource, _, access = scope.rpartition(".")
    return f"{access} {resource}"
