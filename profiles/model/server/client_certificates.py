"""Users from the certificates of clients, in zot's vocabulary (`http.auth.mtls`)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel
from registry_server.http.auth.certificate_options import Attribute, GroupAttribute

_NAMES = {
    **dict.fromkeys(("commonname", "cn"), "CommonName"),
    **dict.fromkeys(("subject", "dn"), "Subject"),
    **dict.fromkeys(("email", "rfc822name"), "Email"),
    **dict.fromkeys(("uri", "url"), "URI"),
    **dict.fromkeys(("dnsname", "dns"), "DNSName"),
}


def _attribute(value: object) -> object:
    """zot reads them in any case, and has two names for each."""
    known = _NAMES.get(value.lower()) if isinstance(value, str) else None
    if known is None:
        raise Refusal(
            f"{value!r} is no attribute of a certificate", "write CommonName, Subject, Email, URI or DNSName"
        )
    return known


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise Refusal(
            f"{text!r} is not a regular expression: {error}",
            "write e.g. 'spiffe://example.org/workload/(.*)'",
        ) from error
    return text


class ClientCertificates(ProfileModel):
    """Who a client is by its certificate, which a proxy in `trustedProxies` checks and passes on."""

    identity_attributes: tuple[Annotated[Attribute, BeforeValidator(_attribute)], ...] = Field(
        default=("CommonName",),
        min_length=1,
        description="What names the user; the first that a certificate has: `CommonName`, `Subject`, "
        "`Email`, `URI`, `DNSName` (the last three of its alternative names).",
        examples=[["URI", "CommonName"]],
    )
    uri_san_pattern: Annotated[str, AfterValidator(_pattern)] = Field(
        default="",
        description="Regular expression that the whole URI has to match; its first group is the user. "
        "Default: the URI is.",
        examples=["spiffe://example.org/workload/(.*)"],
    )
    uri_san_index: int = Field(default=0, ge=0, le=100, description="Which URI counts, from 0.")
    dns_san_index: int = Field(default=0, ge=0, le=100, description="Which DNS name counts, from 0.")
    email_san_index: int = Field(default=0, ge=0, le=100, description="Which mail address counts, from 0.")
    group_attribute: GroupAttribute = Field(
        default="",
        description="What of the subject names groups of policies: `Organization` or `OrganizationalUnit`. "
        "Default: nothing.",
        examples=["OrganizationalUnit"],
    )
