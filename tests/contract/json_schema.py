"""As much of JSON Schema as our generated schemas use; a keyword that is not known here is an error, never ignored."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_FORMATS: dict[str, Callable[[str], object]] = {
    "uuid": UUID,
    "date-time": datetime.fromisoformat,
    "email": lambda text: re.fullmatch(r".+@.+", text) or UUID(text),
    "uri": lambda text: re.match(r"[a-z]+:", text, re.IGNORECASE) or UUID(text),
}
_SILENT = {"$schema", "$id", "$defs", "title", "description", "default", "examples"}


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether the value is valid under the schema. Raises NotImplementedError for a keyword unknown here."""
    return not any(_find(schema, value, schema))


def _find(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> Iterator[str]:
    for keyword, argument in schema.items():
        if keyword not in _SILENT and not _holds(keyword, argument, value, schema, root):
            yield keyword


def _holds(keyword: str, argument: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    def valid(inner: dict[str, Any], of: Any = value) -> bool:
        return not any(_find(inner, of, root))

    match keyword:
        case "$ref":
            return valid(root["$defs"][argument.removeprefix("#/$defs/")])
        case "allOf":
            return all(map(valid, argument))
        case "anyOf":
            return any(map(valid, argument))
        case "const":
            return bool(value == argument)
        case "enum":
            return bool(value in argument)
        case "type":
            return isinstance(value, _TYPES[argument]) and (argument == "boolean" or not isinstance(value, bool))
    if isinstance(value, str):
        return _holds_for_text(keyword, argument, value)
    if isinstance(value, list):
        return _holds_for_list(keyword, argument, value, valid)
    if isinstance(value, dict):
        return _holds_for_object(keyword, argument, value, valid, schema)
    return True


def _holds_for_text(keyword: str, argument: Any, value: str) -> bool:
    match keyword:
        case "pattern":
            return re.search(argument, value) is not None
        case "minLength":
            return len(value) >= int(argument)
        case "maxLength":
            return len(value) <= int(argument)
        case "format":
            try:
                _FORMATS[argument](value)
            except ValueError:
                return False
            return True
    return _is_of_another_type(
        keyword, {"items", "minItems", "maxItems", "properties", "required", "additionalProperties"}
    )


def _holds_for_list(keyword: str, argument: Any, value: list[Any], valid: Callable[..., bool]) -> bool:
    match keyword:
        case "items":
            return all(valid(argument, each) for each in value)
        case "minItems":
            return len(value) >= int(argument)
        case "maxItems":
            return len(value) <= int(argument)
    return _is_of_another_type(keyword, {"pattern", "minLength", "maxLength", "format", "properties", "required"})


def _holds_for_object(
    keyword: str, argument: Any, value: dict[str, Any], valid: Callable[..., bool], schema: dict[str, Any]
) -> bool:
    match keyword:
        case "required":
            return set(argument) <= set(value)
        case "properties":
            return all(valid(inner, value[name]) for name, inner in argument.items() if name in value)
        case "additionalProperties":
            others = [each for name, each in value.items() if name not in schema.get("properties", {})]
            return (
                argument is True
                or (argument is not False and all(valid(argument, each) for each in others))
                or not others
            )
    return _is_of_another_type(
        keyword, {"pattern", "minLength", "maxLength", "format", "items", "minItems", "maxItems"}
    )


def _is_of_another_type(keyword: str, others: set[str]) -> bool:
    if keyword not in others:
        raise NotImplementedError(keyword)
    return True
