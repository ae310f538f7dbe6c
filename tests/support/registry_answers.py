"""What registries answer when they refuse something, in their own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    Answer = tuple[int, dict[str, Any] | None, dict[str, str]]


def error(status: int, code: str, message: str) -> Answer:
    """As distribution-spec has it."""
    return status, {"errors": [{"code": code, "message": message}]}, {}


def ecr_immutable(repository: str, tag: str) -> Answer:
    """What Amazon ECR answers for a tag that may not move."""
    text = (
        f"The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten "
        "because the repository is immutable."
    )
    return error(400, "TAG_INVALID", text)


def harbor_immutable(repository: str, tag: str) -> Answer:
    """What Harbor answers for a tag that may not move."""
    return error(
        412, "PRECONDITION", f"Failed to process request due to '{repository}:{tag}' configured as immutable."
    )


HARBOR_QUOTA = error(
    403,
    "DENIED",
    "adding 3.0 MiB of storage resource, which when updated to current usage of 9.0 MiB will exceed the "
    "configured upper limit of 10.0 MiB.",
)
