"""The base class of all tables in an environment's file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the file: frozen, of the exact types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
