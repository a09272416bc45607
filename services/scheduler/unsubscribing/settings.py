"""What processes are told about unsubscribing by their environment."""

from ipaddress import ip_address
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from services.scheduler.unsubscribing.links import PATH, URL_LIMIT, LinkMaker
from shared.settings import EnvironmentSettings, Networks, parse_networks

EVERYWHERE = "0.0.0.0/0,::/0"


def check_public_url(url: str) -> str:
    """An https URL without its last slash; http is for this machine alone. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("write https://mail.example.com, or with a path in front of /unsubscribe")
    if parts.query or parts.fragment or not all("!" <= char <= "~" and char not in '<>"\\' for char in url):
        raise ValueError("must have no query, no fragment, and nothing beyond printable ASCII")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("must begin with https: mail programs ask no other (RFC 8058); http is for this machine alone")
    if len(url) > URL_LIMIT:
        raise ValueError(f"must not exceed {URL_LIMIT} characters")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class LinkSettings(EnvironmentSettings):
    """Where recipients of mailings find us; without it no mailing can say how to unsubscribe."""

    master_secret: SecretStr | None = Field(default=None, min_length=32)
    public_url: Annotated[str, AfterValidator(check_public_url)] | None = Field(
        default=None, description=f"under which `{PATH}/…` is reached from the internet: https://mail.example.com"
    )

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if self.public_url and self.master_secret is None:
            raise ValueError("MILENA_PUBLIC_URL: needs MILENA_MASTER_SECRET, which signs the links it begins")
        return self

    def make_links(self) -> LinkMaker | None:
        """What makes links; None where it is not said where they lead."""
        if self.public_url is None or self.master_secret is None:
            return None
        return LinkMaker(self.master_secret.get_secret_value(), self.public_url)


class PublicSettings(LinkSettings):
    """Who may use the links."""

    public_networks: Networks = Field(
        default=parse_networks(EVERYWHERE),
        validate_default=False,
        description=f"from which `{PATH}/…` may be asked, without a key; MILENA_ALLOWED_NETWORKS is for all else",
    )
    unsubscribe_rate: float = Field(
        default=50, gt=0, allow_inf_nan=False, description="requests a second of one address to them; beyond: 429"
    )
