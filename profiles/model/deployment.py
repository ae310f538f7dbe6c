"""What a profile says of the Prefect deployment of a registry entry."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel

_OURS = "mirrorflow"  # tags that begin so say whose a deployment is, and who paused it


def _check_tag(tag: str) -> str:
    if not tag.strip() or tag.startswith(_OURS):
        raise Refusal(
            f"{tag[:60]!r} cannot be a tag of a deployment",
            f"write a word that does not begin with {_OURS!r}: those are mirrorflow's own",
        )
    return tag


class DeploymentSettings(ProfileModel):
    """What Prefect's deployment of the entry has. What is set on it elsewhere (in the UI) stays."""

    tags: tuple[Annotated[str, AfterValidator(_check_tag)], ...] = Field(
        default=(),
        description="Tags of the deployment and its runs, beside mirrorflow's own.",
        examples=[["team-a"]],
    )
    job_variables: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Variables of the work pool's job template: `env`, `image` and whatever else it has. For "
        "`mirrorflow deploy`; the runs of `up` are processes of its own.",
        examples=[{"env": {"HTTPS_PROXY": "http://proxy.example:3128"}}],
    )
    work_queue: str | None = Field(
        default=None,
        min_length=1,
        description="Queue of the work pool that the runs wait in; it is made if there is none. For "
        "`mirrorflow deploy`. Default: the pool's default queue.",
        examples=["mirrors"],
    )
