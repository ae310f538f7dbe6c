"""Registries of the large clouds, told by their host names."""

from __future__ import annotations

import re

ECR_PUBLIC = "public.ecr.aws"
# Amazon, Google and Microsoft document these forms; those of Amazon differ by partition and IP version.
_ECR = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|"
    r"sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)
_GOOGLE = re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z0-9-]+\.)?gcr\.io)")
_AZURE = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+\.data)?\.azurecr\.(?:io|cn|us)")
_ECR_NEAR = re.compile(r"\.dkr[.-]ecr")  # a host that is meant to be one


def ecr_region(host: str) -> str | None:
    """The region in the name of a private registry of Amazon; None where the name does not say."""
    match = _ECR.fullmatch(_name(host))
    return match[1] if match else None


def helper_for(host: str) -> str | None:
    """The `credentialHelper` that registries with such a name take; None for other hosts."""
    name = _name(host)
    if name == ECR_PUBLIC or _ECR.fullmatch(name) or _ECR_NEAR.search(name):
        return "ecr"
    if _GOOGLE.fullmatch(name):
        return "gcp"
    return "acr" if _AZURE.fullmatch(name) else None


def _name(host: str) -> str:
    return host.partition(":")[0].rstrip(".")
