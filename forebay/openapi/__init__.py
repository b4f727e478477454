"""The description of the API (OpenAPI 3.1), made from the routes and the declarations alone."""

from forebay.openapi.document import describe

__all__ = ["describe"]
