"""A conventional read API: FastAPI, SQLAlchemy's ORM, pydantic models."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The declarative base of the mapped class."""


class CityRow(Base):
    """A row of the table."""

    __tablename__ = "cities"

    geonameid: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country_code: Mapped[str]
    population: Mapped[int]
    latitude: Mapped[float]
    longitude: Mapped[float]
    timezone: Mapped[str]


class City(BaseModel):
    """A city in the answer."""

    model_config = ConfigDict(from_attributes=True)

    geonameid: int
    name: str
    country_code: str
    population: int
    latitude: float
    longitude: float
    timezone: str


class OrmApi:
    """The application, called without a server."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        self._loop = asyncio.new_event_loop()
        self._app = FastAPI()
        # Async: FastAPI would run a plain `def` in a thread, which takes longer.
        self._app.get("/cities", response_model=list[City])(self._cities)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close()
        self._engine.dispose()

    def get(self, target: str, times: int) -> bytes:
        """Send the request this many times; return the last answer's body."""
        return self._loop.run_until_complete(self._get(target, times))

    async def _cities(self, limit: int = 100) -> Any:  # noqa: ANN401 - FastAPI makes models of it
        with Session(self._engine) as session:
            return session.scalars(select(CityRow).order_by(CityRow.geonameid).limit(limit)).all()

    async def _get(self, target: str, times: int) -> bytes:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"api.example.com"), (b"accept", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        body = b""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:  # noqa: ANN401
            nonlocal body
            if message["type"] == "http.response.body":
                body = message["body"]
            elif message["status"] != 200:  # noqa: PLR2004
                raise AssertionError(message)

        for _ in range(times):
            await self._app(dict(scope), receive, send)
        return body
