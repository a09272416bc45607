"""/v1/templates: saving, reading and previewing templates.

Who changes one changes what all keys of the account send, also from senders that his own key may not use. So
`emails:send` is not enough for it.
"""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from services.gateway.templates.bodies import (
    DraftPreviewRequest,
    NewTemplate,
    PreviewRequest,
    Template,
    TemplateContent,
    TemplateListed,
    TemplatePage,
    TemplatePreview,
    VersionListed,
    VersionPage,
    show_template,
)
from services.gateway.templates.content import Content, StoredTemplate, complete, preview
from services.gateway.templates.examples import CONTENT, DRAFT, NEW, PREVIEW
from services.gateway.templates.store import TemplateStore
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.bodies import read_model
from shared.composing.composer import UnacceptableFields
from shared.composing.forms import TemplateName, VersionNumber
from shared.cursors import read_cursor, write_cursor
from shared.problems import Problem, invalid_content

CHANGING, READING = ApiScope.MAILINGS_ADMIN, ApiScope.EMAILS_READ
_AFTER_POINTER = "/query/after"
_LAST_VERSION = 2**31 - 1
BODIES = (NewTemplate, TemplateContent, PreviewRequest, DraftPreviewRequest)

TheName = Annotated[TemplateName, Path(description="the template's name")]
TheVersion = Annotated[VersionNumber | None, Query(description="absent: the latest")]
After = Annotated[str | None, Query(max_length=1000, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500, description="entries of a page")]


def setup_templates(app: FastAPI, keys: KeyLookup, store: TemplateStore) -> None:
    """Add the routes."""
    _setup_saving(app, keys, store)
    _setup_reading(app, keys, store)
    _setup_previews(app, keys, store)


def _setup_saving(app: FastAPI, keys: KeyLookup, store: TemplateStore) -> None:
    @app.post(
        "/v1/templates",
        tags=["Templates"],
        summary="Save a new template",
        status_code=201,
        response_model=Template,
        responses=describe_problems(400, 401, 403, 409, 413, 422, 503),
        openapi_extra=NEW,
    )
    async def create_template(request: Request) -> Response:
        """Save version 1. What is no template is refused with its line, filters that do not exist as well.

        Variables that the template uses are declared by themselves: required, or optional where it says what to do
        without them (`{{ nick|default("you") }}`, `{% if nick is defined %}`).
        """
        key = await authenticate(request, keys, CHANGING)
        wanted = await read_model(request, NewTemplate)
        saved = await store.save(key.account, wanted.name, _complete(wanted), key.id, only_new=True)
        if saved is None:
            detail = "There is a template of this name. PUT makes a new version of it."
            raise Problem(409, "template-exists", detail, name=wanted.name)
        return _answer(saved.template, 201)

    @app.put(
        "/v1/templates/{name}",
        tags=["Templates"],
        summary="Save a version",
        response_model=Template,
        responses={201: {"model": Template}, **describe_problems(400, 401, 403, 413, 422, 503)},
        openapi_extra=CONTENT,
    )
    async def put_template(name: TheName, request: Request) -> Response:
        """Save a new version, or the first (201). Content equal to the latest version's makes none.

        Mails that name no version take the new one within 5 s.
        """
        key = await authenticate(request, keys, CHANGING)
        content = _complete(await read_model(request, TemplateContent))
        saved = await store.save(key.account, name, content, key.id)
        if saved:
            return _answer(saved.template, 201 if saved.is_first else 200)
        return _answer(await _find(store, key, name), 200)

    @app.delete(
        "/v1/templates/{name}",
        tags=["Templates"],
        summary="Delete a template",
        status_code=204,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def delete_template(name: TheName, request: Request) -> Response:
        """Delete all its versions. Mails accepted so far hold their content; new ones are refused within 5 s."""
        key = await authenticate(request, keys, CHANGING)
        if not await store.delete(key.account, name):
            raise _not_found()
        return Response(status_code=204)


def _setup_reading(app: FastAPI, keys: KeyLookup, store: TemplateStore) -> None:
    @app.get(
        "/v1/templates",
        tags=["Templates"],
        summary="Templates of the account",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 422, 503),
    )
    async def list_templates(request: Request, after: After = None, limit: Limit = 100) -> TemplatePage:
        """List them by name, each with its latest version."""
        key = await authenticate(request, keys, READING)
        position = read_cursor(after, 1, _AFTER_POINTER)[0] if after else ""
        found = await store.list_some(key.account, position, limit)
        data = [TemplateListed.model_validate(each, from_attributes=True) for each in found]
        return TemplatePage(data=data, next=write_cursor(found[-1].name) if len(found) == limit else None)

    @app.get(
        "/v1/templates/{name}",
        tags=["Templates"],
        summary="One version of a template",
        response_model_exclude_unset=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def read_template(name: TheName, request: Request, version: TheVersion = None) -> Template:
        """Its content, and all its variables."""
        key = await authenticate(request, keys, READING)
        return show_template(await _find(store, key, name, version))

    @app.get(
        "/v1/templates/{name}/versions",
        tags=["Templates"],
        summary="Versions of a template",
        response_model_exclude_none=True,
        responses=describe_problems(401, 403, 404, 422, 503),
    )
    async def list_versions(name: TheName, request: Request, after: After = None, limit: Limit = 100) -> VersionPage:
        """List them, newest first, each with the key it was saved with."""
        key = await authenticate(request, keys, READING)
        position = read_cursor(after, 1, _AFTER_POINTER)[0] if after else str(_LAST_VERSION)
        if not position.isascii() or not position.isdigit() or len(position) > 10:
            raise invalid_content([{"detail": "not a cursor of this list", "pointer": _AFTER_POINTER}])
        found = await store.list_versions(key.account, name, min(int(position), _LAST_VERSION), limit)
        if not found and not after:
            raise _not_found()
        data = [VersionListed.model_validate(each, from_attributes=True) for each in found]
        return VersionPage(data=data, next=write_cursor(str(found[-1].version)) if len(found) == limit else None)


def _setup_previews(app: FastAPI, keys: KeyLookup, store: TemplateStore) -> None:
    @app.post(
        "/v1/templates/preview",
        tags=["Templates"],
        summary="What unsaved content would say",
        responses=describe_problems(400, 401, 403, 413, 422, 503),
        openapi_extra=DRAFT,
    )
    async def preview_draft(request: Request) -> TemplatePreview:
        """Render content that is saved nowhere. What could not be saved is refused the same way."""
        await authenticate(request, keys, READING)
        wanted = await read_model(request, DraftPreviewRequest)
        return _show(_complete(wanted.template, "/template"), wanted)

    @app.post(
        "/v1/templates/{name}/preview",
        tags=["Templates"],
        summary="What a template would say",
        responses=describe_problems(400, 401, 403, 404, 413, 422, 503),
        openapi_extra=PREVIEW,
    )
    async def preview_template(name: TheName, request: Request, version: TheVersion = None) -> TemplatePreview:
        """Render subject, text and html as a mail with these variables would have them, and say which are missing."""
        key = await authenticate(request, keys, READING)
        wanted = await read_model(request, PreviewRequest)
        return _show((await _find(store, key, name, version)).content, wanted)


def _complete(wanted: TemplateContent, prefix: str = "") -> Content:
    try:
        return complete(wanted.to_content())
    except UnacceptableFields as exc:
        errors = [{**error, "pointer": prefix + error["pointer"]} for error in exc.errors]
        raise invalid_content(errors) from None


async def _find(store: TemplateStore, key: ApiKey, name: str, version: int | None = None) -> StoredTemplate:
    found = await store.find(key.account, name, version)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> Problem:
    return Problem(404, "not-found", "This account has no such template, or no such version of it.")


def _show(content: Content, wanted: PreviewRequest) -> TemplatePreview:
    return TemplatePreview.model_validate(preview(content, wanted.variables), from_attributes=True)


def _answer(template: StoredTemplate, status: int) -> JSONResponse:
    """The version as it is now; a 201 says where it can be found."""
    headers = {"location": f"/v1/templates/{template.name}"} if status == 201 else {}
    return JSONResponse(show_template(template).model_dump(mode="json", exclude_unset=True), status, headers)
