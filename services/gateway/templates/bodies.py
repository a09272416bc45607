"""What is asked and answered about templates: the models of the JSON."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.gateway.templates.content import Content, StoredTemplate, Variable
from shared.apidocs import FieldError
from shared.composing.forms import TemplateName
from shared.events.requested import HeaderText, check_variables, point_at

_SOURCE_LIMIT = 512 * 1024


def _refuse_nul(value: str | None) -> str | None:
    if value and "\0" in value:
        raise ValueError("must not contain NUL")
    return value


def _check_json(value: Any) -> Any:
    check_variables({"default": value})
    return value


Source = Annotated[str, StringConstraints(max_length=_SOURCE_LIMIT), AfterValidator(_refuse_nul)]
VariableName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Values = Annotated[dict[str, Any], AfterValidator(check_variables)]


class VariableDeclaration(BaseModel):
    """What a template wants to know of one variable."""

    model_config = ConfigDict(extra="forbid")

    required: bool = Field(default=True, description="absent: true, unless there is a default")
    default: Annotated[Any, AfterValidator(_check_json)] = Field(
        default=None, description="put in where a mail does not give the variable; null renders as nothing"
    )
    description: Annotated[str, StringConstraints(max_length=500), AfterValidator(_refuse_nul)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _derive_required(cls, data: Any) -> Any:
        if isinstance(data, dict) and "default" in data:
            if data.get("required"):
                raise point_at("required", "a variable with a default is not required")
            return {**data, "required": False}
        return data

    def to_variable(self) -> Variable:
        """As it is kept."""
        return Variable(self.required, "default" in self.model_fields_set, self.default, self.description)


class TemplateContent(BaseModel):
    """Subject, text and html as templates: `{{ name }}`, filters, `{% if %}`, `{% for %}`, `{% set %}`, `{% raw %}`."""

    model_config = ConfigDict(extra="forbid")

    subject: Annotated[HeaderText, StringConstraints(max_length=2000)] = Field(examples=["Welcome, {{ name }}"])
    text: Source | None = None
    html: Source | None = Field(default=None, examples=["<p>Hello {{ name }}</p>"])
    variables: dict[VariableName, VariableDeclaration] = Field(
        default_factory=dict, description="those that are used and not declared here are declared as required"
    )

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.text is None and self.html is None:
            raise point_at("html", "one of html and text is needed")
        return self

    def to_content(self) -> Content:
        """As it is kept."""
        variables = {name: each.to_variable() for name, each in self.variables.items()}
        return Content(self.subject, self.text, self.html, variables)


class NewTemplate(TemplateContent):
    """A template that is not there yet."""

    name: TemplateName = Field(examples=["welcome"])


class PreviewRequest(BaseModel):
    """What a mail would give."""

    model_config = ConfigDict(extra="forbid")

    variables: Values = Field(default_factory=dict)


class DraftPreviewRequest(PreviewRequest):
    """Content that is saved nowhere, and what a mail would give."""

    template: TemplateContent


class ShownVariable(BaseModel):
    """A variable as it is kept."""

    required: bool
    default: Any = Field(default=None, description="only where there is one")
    description: str | None = None


class Template(BaseModel):
    """One version of a template."""

    name: str
    version: int
    subject: str
    text: str | None
    html: str | None
    variables: dict[str, ShownVariable]
    created_at: datetime = Field(description="when this version was saved")
    api_key_id: str = Field(description="the key it was saved with")


class TemplateListed(BaseModel):
    """A template; `version` and `subject` are those of the latest."""

    name: str
    version: int
    subject: str
    created_at: datetime
    updated_at: datetime


class TemplatePage(BaseModel):
    """Templates by name; `next` where there may be more."""

    data: list[TemplateListed]
    next: str | None = None


class VersionListed(BaseModel):
    """A version."""

    version: int
    subject: str
    created_at: datetime
    api_key_id: str


class VersionPage(BaseModel):
    """Versions, newest first; `next` where there may be more."""

    data: list[VersionListed]
    next: str | None = None


class TemplatePreview(BaseModel):
    """What a mail would say. In place of a variable that is missing stands its name, as `{{ name }}`."""

    subject: str | None = Field(default=None, description="absent where it cannot be rendered")
    text: str | None = None
    html: str | None = None
    missing: list[str] = Field(description="required variables that were not given")
    errors: list[FieldError] = Field(description="why a field cannot be rendered")


def show_template(found: StoredTemplate) -> Template:
    """A version as it is answered."""
    content = found.content
    return Template(
        name=found.name,
        version=found.version,
        subject=content.subject,
        text=content.text,
        html=content.html,
        variables={name: _show_variable(each) for name, each in content.variables.items()},
        created_at=found.created_at,
        api_key_id=found.api_key_id,
    )


def _show_variable(variable: Variable) -> ShownVariable:
    told: dict[str, Any] = {"required": variable.required}
    if variable.has_default:
        told["default"] = variable.default
    if variable.description is not None:
        told["description"] = variable.description
    return ShownVariable(**told)
