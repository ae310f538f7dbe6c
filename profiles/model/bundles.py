"""What is taken over an air gap: `bundles`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import ProfileModel
from profiles.model.trust.signers import Signer

if TYPE_CHECKING:
    from profiles.model.trust.anchors import Trust

_TYPES = ("key", "keyless")


class Bundles(ProfileModel):
    """Whose bundles, inventories and receipts count."""

    from_: tuple[Signer, ...] = Field(
        alias="from",
        min_length=1,
        description="Who signs what comes from the other side: keys of `trust.keys`, or identities of "
        "`trust.sigstore`. Any of them is enough.",
        examples=[[{"name": "near", "type": "key", "key": "near"}]],
    )
    pushed: Literal["refuse", "accept"] = Field(
        default="refuse",
        description="What becomes of images that clients pushed on the other side, and that no registry "
        "entry brought: no policy is about them. `refuse`: they stay out. `accept`: they come in, and nobody "
        "verifies them.",
    )

    @model_validator(mode="after")
    def _check_signers(self) -> Self:
        refusals = [
            Refusal(
                f"bundles are signed by a key or an identity, and this is {signer.type!r}",
                "write 'type: key' or 'type: keyless'",
                at=("from", number, "type"),
            )
            for number, signer in enumerate(self.from_)
            if signer.type not in _TYPES
        ]
        if refusals:
            raise Refusals(tuple(refusals))
        return self

    def missing_trust(self, trust: Trust) -> tuple[Refusal, ...]:
        """What its signers name and `trust` does not have."""
        return tuple(
            Refusal(each.found, each.write, at=("bundles", "from", number, *each.at), cause=each.cause)
            for number, signer in enumerate(self.from_)
            for each in signer.missing_trust(trust)
        )
