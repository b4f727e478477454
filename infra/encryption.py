"""Settings of the key that encrypts data at rest."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, Strict, model_validator

from infra.section import Section

_KEY_ID: Final = r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
#: Not an alias: the permissions of roles are for keys.
KeyArn = Annotated[str, Field(pattern=rf"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{{12}}:key/{_KEY_ID}$")]
OWN: Final = "own"


class EncryptionSettings(Section):
    """The key of everything that the environment stores."""

    #: `managed`: keys of AWS. `own`: a key that the data stack creates. Or the ARN of a key.
    key: Literal["managed", "own"] | KeyArn = "managed"
    #: Keys that have encrypted data before, and may still be needed to read it.
    former_keys: Annotated[tuple[Literal["own"] | KeyArn, ...], Strict(strict=False)] = ()

    @model_validator(mode="after")
    def _check_former(self) -> Self:
        if self.key in self.former_keys:
            raise ValueError(f"former_keys contains the key in use, {self.key}: remove it there")
        return self

    @property
    def used(self) -> tuple[str, ...]:
        """The key in use, if it is the customer's, and the former ones."""
        current = () if self.key == "managed" else (self.key,)
        return (*current, *self.former_keys)

    @property
    def arns(self) -> tuple[str, ...]:
        """The used keys that the environment does not create."""
        return tuple(key for key in self.used if key != OWN)
