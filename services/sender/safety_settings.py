"""The settings that keep a staging system from writing to strangers."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from services.sender.safety import DOMAINS, REDIRECT, Safety, allows
from shared.addresses import check_address
from shared.settings import EnvironmentSettings


def _parse_domains(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return frozenset(_parse_domain(part.strip()) for part in value.split(",") if part.strip())


def _parse_domain(text: str) -> str:
    below = text.startswith("*.")
    try:
        domain = check_address(f"x@{text.removeprefix('*.')}").rpartition("@")[2].lower()
    except ValueError:
        raise ValueError(f"{text!r} is no domain; write example.org or *.example.org, separated by commas") from None
    return f"*.{domain}" if below else domain


class SafetySettings(EnvironmentSettings):
    """Both are off by default; in production they stay so."""

    redirect_all_to: Annotated[str, AfterValidator(check_address)] | None = Field(
        default=None, description="every mail goes to this address, and to nobody else"
    )
    allowed_recipient_domains: Annotated[frozenset[str], NoDecode, BeforeValidator(_parse_domains)] = Field(
        default=frozenset(), description="recipients elsewhere get nothing: example.org,*.example.net"
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        domains = self.allowed_recipient_domains
        if self.redirect_all_to and domains and not allows(domains, self.redirect_all_to):
            raise ValueError(f"{REDIRECT} must lie at one of the domains of {DOMAINS}")
        return self

    @property
    def safety(self) -> Safety:
        """What follows from them."""
        return Safety(self.redirect_all_to, self.allowed_recipient_domains)
