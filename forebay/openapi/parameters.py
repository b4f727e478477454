"""The parameters of operations, from the declared parts of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from forebay.openapi.examples import COMMAND_ID, ITEM_TAG, make_comparable_value, make_value
from forebay.openapi.schemas import (
    OWN_FORMAT,
    Schema,
    build_key_schema,
    build_request_properties,
    reference,
)
from forebay.query.ast import Operand
from forebay.query.grammar import DEFAULT_LIMIT, LOGIC, MAX_LIMIT
from forebay.query.operators import (
    IS_STATES,
    QUANTIFIABLE,
    TEXT_SEARCH,
    list_operators,
)
from forebay.resource.relations import Relation, select_direct
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec
from forebay.routes import Parameter, Route

_MANY: Final = "{value,…}"
_WHOLE_NUMBER: Final = {"type": "integer", "minimum": 0}
_ENTITY_TAGS: Final[Schema] = {"type": "string", OWN_FORMAT: "entity-tags"}

#: Headers of reads, by name. `operations` has the headers of writes.
HEADERS: Final[Mapping[str, Schema]] = {
    "If-None-Match": {
        "description": "304 if the answer has one of these entity tags.",
        "schema": {**_ENTITY_TAGS, "examples": [ITEM_TAG]},
    },
    "Read-After": {
        "description": "Requests a state in which a command is settled. Everywhere the path of "
        "the command's status, as `Location` gave it; for an item also the command's id or the "
        "item's entity tag.",
        "schema": {"type": "string", OWN_FORMAT: "command-reference", "examples": [COMMAND_ID]},
    },
    "Range": {
        "description": "Rows from 0, both ends included; an alternative to `offset` and `limit`.",
        "schema": {"type": "string", OWN_FORMAT: "row-range", "examples": ["0-24"]},
    },
    "Range-Unit": {
        "description": "The unit of `Range`; a range in another unit is ignored.",
        "schema": {"type": "string", "examples": ["items"]},
    },
}
_PREFER_COUNT: Final = {
    "description": "RFC 7240. `count=exact`, `count=planned` or `count=estimated` requests the "
    "number of all rows in `Content-Range`; with `handling=strict`, unknown preferences are "
    "refused.",
    "schema": {"type": "string", OWN_FORMAT: "list-preferences", "examples": ["count=exact"]},
}
_PREFER_WAIT: Final = {
    "description": "RFC 7240. `wait=N` delays the answer by up to N seconds, until the command is "
    "settled.",
    "schema": {"type": "string", OWN_FORMAT: "wait-preference", "examples": ["wait=1"]},
}


class Parameters:
    """Descriptions of the parameters of one resource's routes."""

    def __init__(self, spec: ResourceSpec, relations: Sequence[Relation]) -> None:
        self._spec = spec
        self._relations = {
            name: relation for relation in select_direct(relations) for name in relation.names
        }
        self._taken = build_request_properties(spec)

    def of(self, route: Route) -> list[Schema]:
        """Describe all parameters of a route.

        Accept is omitted: OpenAPI describes the media types of answers instead (§4.8.12.1). So is
        the condition on a field named `body` of a PATCH, because generators of Python clients have
        an argument of that name for the request's body.
        """
        omitted = {("header", "Accept")}
        omitted |= {("query", "body")} if route.action == "patch_many" else set()
        return [
            self._describe(route, parameter)
            for parameter in route.parameters
            if (parameter.location, parameter.name) not in omitted
        ]

    def _describe(self, route: Route, parameter: Parameter) -> Schema:
        place = {"name": parameter.name, "in": parameter.location}
        if parameter.location == "path":
            return {**place, "required": True, **self._describe_path(parameter.name)}
        if route.action in {"patch_many", "delete_many"}:
            return {**place, **self._describe_condition(parameter.name)}
        if parameter.location == "header" and parameter.name == "Prefer":
            return {**place, **(_PREFER_WAIT if route.action == "status" else _PREFER_COUNT)}
        if parameter.location == "header":
            return {**place, **HEADERS[parameter.name]}
        return {**place, **self._describe_query(parameter.name)}

    def _describe_path(self, name: str) -> Schema:
        if name == "id":
            return {"schema": reference("CommandId"), "example": COMMAND_ID}
        return {
            "description": f"`{self._spec.key.name}`, in its canonical spelling.",
            "schema": build_key_schema(self._spec, self._taken),
            "example": make_value(self._spec.key, self._taken[self._spec.key.name]),
        }

    def _describe_query(self, name: str) -> Schema:
        relation, _, column_name = name.partition(".")
        if relation in self._relations and self._spec.column(name) is None and name not in LOGIC:
            target = self._relations[relation].target
            if not column_name:
                return _describe_presence(relation)
            description = _describe_query_of(target, column_name)
            about = f"For rows of the embedded `{relation}`, which `select` must name."
            text = f"{about} {description.get('description', '')}".rstrip()
            return {**description, "description": text}
        return _describe_query_of(self._spec, name)

    def _describe_condition(self, name: str) -> Schema:
        """Describe a filter of a write: it names the items, or is their condition."""
        column = self._spec.column(name)
        if column is None or column is self._spec.key:
            return self._describe_key_filter()
        value = make_value(column, self._taken[column.name])
        if isinstance(value, bool):
            value = str(value).lower()
        is_null = value is None or column.kind is Kind.JSON
        example = "is.null" if is_null else f"eq.{value}"
        return {"schema": {**reference(_build_condition_name(column.kind)), "examples": [example]}}

    def _describe_key_filter(self) -> Schema:
        """Describe the parameter that names the items of a write."""
        key = self._spec.key
        value = make_value(key, self._taken[key.name])
        return {
            "required": True,
            "schema": {
                "type": "string",
                OWN_FORMAT: f"{key.kind.value}-keys",
                "pattern": r"^(eq\.|in\.\()",
                "examples": [f"eq.{value}", f"in.({value})"],
            },
        }

    def form(self, names: Sequence[str]) -> Schema:
        """Describe a form body with these parameters as its fields."""
        descriptions = {name: self._describe_query(name) for name in names}
        return {
            "type": "object",
            "properties": {
                name: {**description["schema"], **_pick_description(description)}
                for name, description in descriptions.items()
            },
            # Aliases, JSON paths, nested relations.
            "additionalProperties": {"type": "string"},
        }


def _pick_description(description: Schema) -> Schema:
    return {"description": description["description"]} if "description" in description else {}


def _describe_presence(relation: str) -> Schema:
    return {
        "description": f"Whether the item has a row of the embedded `{relation}`, which `select` "
        "must name.",
        "schema": {
            "type": "string",
            "pattern": "^(not\\.)?is\\.(null|not_null)$",
            "examples": ["not.is.null"],
        },
    }


def filter_schemas() -> Iterator[tuple[str, Schema]]:
    """Yield the schemas of filters with their names: one for each set of supported operators."""
    for kind in Kind:
        for shape in ("list", "dict") if kind is Kind.JSON else (None,):
            column = FieldSpec(name="x", kind=kind, shape=shape)
            yield _build_filter_name(column), _build_filter_schema(column)


def build_condition_schemas() -> Iterator[tuple[str, Schema]]:
    """Yield the schemas of a write's filters on fields with their names: one for each kind."""
    for kind in Kind:
        is_json = kind is Kind.JSON
        operators = r"^is\.null$" if is_json else r"^((eq|neq|gt|gte|lt|lte)\.|in\.\(|is\.null$)"
        yield (
            _build_condition_name(kind),
            {
                "type": "string",
                OWN_FORMAT: f"{kind.value}-condition",
                "pattern": operators,
                "description": "A condition of the write, decided when it is applied.",
            },
        )


def _build_condition_name(kind: Kind) -> str:
    return f"{kind.value.capitalize()}Condition"


def _describe_query_of(spec: ResourceSpec, name: str) -> Schema:
    column = spec.column(name)
    if column is not None:
        # In the schema, because Swagger UI would prefill the first of the parameter's examples.
        return {
            "schema": {
                **reference(_build_filter_name(column)),
                "examples": _build_examples(spec, column),
            }
        }
    describe = _WORDS[name]
    return describe(spec)


def _build_filter_name(column: FieldSpec) -> str:
    kind = f"Json{(column.shape or 'value').capitalize()}"
    return f"{kind if column.kind is Kind.JSON else column.kind.value.capitalize()}Filter"


def _build_filter_schema(column: FieldSpec) -> Schema:
    operators = list_operators(Operand(column))
    states = IS_STATES if column.kind is Kind.BOOLEAN else ("null", "not_null")
    quoted = [f"`{operator}`" for operator in operators]
    return {
        "type": "string",
        OWN_FORMAT: f"{_build_format_name(column)}-filter",
        # The pattern covers the operator only: the syntax of a value depends on its operator.
        "pattern": _build_head(operators),
        "description": f"An operator and a value: {', '.join(quoted)}. `is` supports "
        f"{', '.join(states)}. A leading `not.` negates the condition. "
        f"`(any)` or `(all)` with {_MANY} can follow "
        f"{', '.join(operator for operator in operators if operator in QUANTIFIABLE)}."
        + (" Text search operators support a language: `fts(english)`." * _has_search(operators)),
    }


def _has_search(operators: Sequence[str]) -> bool:
    return any(operator in TEXT_SEARCH for operator in operators)


def _build_head(operators: Sequence[str]) -> str:
    """Return a pattern for the part of a filter before its value."""
    quantified = "|".join(operator for operator in operators if operator in QUANTIFIABLE)
    searching = "|".join(operator for operator in operators if operator in TEXT_SEARCH)
    plain = "|".join(
        operator for operator in operators if operator not in {*QUANTIFIABLE, *TEXT_SEARCH}
    )
    alternatives = [rf"({quantified})(\([ ]*(any|all)[ ]*\))?", plain]
    if searching:
        alternatives.append(rf"({searching})(\([ ]*[A-Za-z]+[ ]*\))?")
    return rf"^(not\.)?({'|'.join(alternatives)})\."


def _build_format_name(column: FieldSpec) -> str:
    return f"json-{column.shape}" if column.kind is Kind.JSON else column.kind.value


def _build_examples(spec: ResourceSpec, column: FieldSpec) -> list[str]:
    value = make_comparable_value(column, build_request_properties(spec)[column.name])
    if column.kind is Kind.JSON:
        return ["cs.[]" if column.shape == "list" else "cs.{}"]
    text = str(value).lower() if isinstance(value, bool) else str(value)
    examples = [f"eq.{text}", f"in.({text})"]
    if column.kind is Kind.TEXT:
        examples.append(f"ilike.*{text[1:]}*")
    elif column.kind not in {Kind.BOOLEAN, Kind.UUID}:
        examples.append(f"gte.{text}")
    return [*examples, "not.is.null"] if column.nullable else examples


def _describe_select(spec: ResourceSpec) -> Schema:
    first_name, second_name = spec.columns[0].name, spec.columns[1].name
    return {
        "description": "The members of each object: columns, JSON paths (`->`, `->>`), casts "
        "(`::text`), aliases (`alias:column`), and related rows, up to three levels deep "
        "(`relation(column,…)`, `!inner`). All columns by default.",
        "schema": _describe_text("selection", f"{first_name},{second_name}"),
    }


def _describe_order(spec: ResourceSpec) -> Schema:
    return {
        "description": "Columns, JSON paths, or `relation(column)`, each with `.asc` or `.desc` "
        f"and `.nullsfirst` or `.nullslast`. `{spec.key.name}` is always the last column.",
        "schema": _describe_text("order", f"{spec.columns[1].name}.desc,{spec.key.name}"),
    }


def _describe_conditions(spec: ResourceSpec) -> Schema:
    return {
        "description": "Conditions in brackets, which may be nested: "
        "`(column.operator.value,or(…),not.and(…))`. Put a value with `,` or `)` in double "
        "quotes, in which `\\` escapes a character.",
        "schema": _describe_text("conditions", f"({spec.key.name}.not.is.null)"),
    }


def _describe_limit(_spec: ResourceSpec) -> Schema:
    return {
        "description": f"Number of rows of a page. Values above {MAX_LIMIT:,} are reduced to it.",
        "schema": {**_WHOLE_NUMBER, "default": DEFAULT_LIMIT},
    }


def _describe_offset(_spec: ResourceSpec) -> Schema:
    return {
        "description": "Number of rows before the page; can't be combined with `cursor`.",
        "schema": dict(_WHOLE_NUMBER),
    }


def _describe_cursor(_spec: ResourceSpec) -> Schema:
    return {
        "description": "The position of the page, from `Link`; for the same filters and order.",
        "schema": _describe_text("cursor"),
    }


def _describe_text(form: str, *examples: str) -> Schema:
    schema: Schema = {"type": "string", OWN_FORMAT: form}
    return {**schema, "examples": list(examples)} if examples else schema


_WORDS: Final[Mapping[str, Callable[[ResourceSpec], Schema]]] = {
    "select": _describe_select,
    "order": _describe_order,
    "limit": _describe_limit,
    "offset": _describe_offset,
    "cursor": _describe_cursor,
    **dict.fromkeys(LOGIC, _describe_conditions),
}
