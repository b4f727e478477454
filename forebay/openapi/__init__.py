"""The description of the API (OpenAPI 3.1), derived from the routes and the declarations."""

from forebay.openapi.document import describe

__all__ = ["describe"]
