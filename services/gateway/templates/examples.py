"""Request bodies of /v1/templates with their examples, for the API's documentation."""

from services.gateway.templates.bodies import DraftPreviewRequest, NewTemplate, PreviewRequest, TemplateContent
from shared.apidocs import describe_body

_WELCOME = {
    "subject": "Welcome, {{ name }}",
    "html": "<p>Hello {{ name }}, your plan is {{ plan }}.</p>",
    "text": "Hello {{ name }}, your plan is {{ plan }}.",
    "variables": {"name": {"description": "first name"}, "plan": {"default": "free"}},
}
_VALUES = {"variables": {"name": "Ann"}}
NEW = describe_body(
    {"application/json": (NewTemplate, {"welcome": {"summary": "A default", "value": {"name": "welcome", **_WELCOME}}})}
)
CONTENT = describe_body(
    {"application/json": (TemplateContent, {"welcome": {"summary": "A default", "value": _WELCOME}})}
)
PREVIEW = describe_body({"application/json": (PreviewRequest, {"ann": {"summary": "For Ann", "value": _VALUES}})})
PREVIEW["requestBody"]["required"] = False
DRAFT = describe_body(
    {
        "application/json": (
            DraftPreviewRequest,
            {"draft": {"summary": "Saved nowhere", "value": {"template": _WELCOME, **_VALUES}}},
        )
    }
)
