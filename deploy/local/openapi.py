"""One OpenAPI document out of those of all services."""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.local.dispatcher import Api

Document = dict[str, Any]
VERSION = "0.1.0"
TITLE = "Milena"
_DESCRIPTION = (
    "Asynchronous email delivery. A 202 means that Kafka holds the mail and that it will reach an end you can see. "
    "Every error is a problem document (RFC 9457) whose `type` leads to a page that says what to do."
)
_KEY = {"type": "http", "scheme": "bearer", "description": "an API key, mk_…"}


def describe_apis(apis: Sequence[Api]) -> Document:
    """Every operation of all services on one page."""
    document = merge_documents({api.name: api.app.openapi() for api in apis}, TITLE, VERSION)
    document["servers"] = [{"url": "/"}]
    document["info"] |= {"description": _DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    # Every API reads the key itself; said here, so that /docs asks for it and sends it.
    document["components"].setdefault("securitySchemes", {})["key"] = _KEY
    return {**document, "security": [{"key": []}]}


def merge_documents(documents: Mapping[str, Document], title: str, version: str) -> Document:
    """Merge the documents of several services, by service name, into one.

    A component that two services define differently under one name is renamed after the later service, and
    its references with it. Where two declare one path (``/healthz``), the first wins.
    """
    merged: Document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": {},
        "components": {},
    }
    for service, document in documents.items():
        renamed = _rename_conflicts(document, merged["components"], service)
        for path, item in renamed.get("paths", {}).items():
            merged["paths"].setdefault(path, item)
        for section, components in renamed.get("components", {}).items():
            merged["components"].setdefault(section, {}).update(components)
        known = {tag["name"] for tag in merged.get("tags", [])}
        fresh = [tag for tag in renamed.get("tags", []) if tag["name"] not in known]
        if fresh:
            merged.setdefault("tags", []).extend(fresh)
    return merged


def _rename_conflicts(document: Document, taken: Document, service: str) -> Document:
    references: dict[str, str] = {}
    for section, components in document.get("components", {}).items():
        for name, component in components.items():
            if taken.get(section, {}).get(name, component) != component:
                new_name = f"{service.capitalize()}{name}"
                references[f"#/components/{section}/{name}"] = f"#/components/{section}/{new_name}"
    if not references:
        return document
    moved: Document = _replace_references(document, references)
    for section, components in moved["components"].items():
        moved["components"][section] = {
            references.get(f"#/components/{section}/{name}", name).rsplit("/", 1)[-1]: component
            for name, component in components.items()
        }
    return moved


def _replace_references(value: Any, references: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: references.get(inner, inner) if key == "$ref" else _replace_references(inner, references)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_replace_references(inner, references) for inner in value]
    return value
