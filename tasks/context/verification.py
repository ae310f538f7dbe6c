"""Which policy covers an image of one registry entry.

Judging signatures needs libraries that take long to import: they are imported once a profile has a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.matching import has_min_age, source_name
from profiles.model.trust.fingerprint import BY_ONLY_SIGNED
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.digest import Digest
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image
    from tasks.trust.compiling import Policies
    from tasks.trust.policy import Policy


@dataclass(frozen=True, slots=True)
class Verification:
    """What the profile asks of the images of one registry entry. Falsy when it asks for nothing.

    `record`: verdicts are kept beside their images.
    """

    policies: Policies | None = None
    only_signed: bool = False
    record: bool = False

    @classmethod
    def of(cls, profile: Profile, entry: RegistryEntry, policies: Policies | None = None) -> Verification:
        """Loads no verifier for a profile without `verify` and an entry without `onlySigned`.

        `policies`: those of the profile, made and not checked. Without, they are made and checked: raises
        `TrustBroken` when a key or root that a rule needs cannot be used.
        """
        if profile.verify is None and not entry.only_signed:
            return cls()
        if policies is None:
            from tasks.trust.compiling import Policies

            policies = Policies(profile.trust, profile.verify)
            policies.check()
        return cls(policies, entry.only_signed, profile.verify is not None and profile.verify.record_verdicts)

    def __bool__(self) -> bool:
        return self.policies is not None

    def policy_for(self, repository: str, tag: str | None) -> Policy | None:
        """For an image of `host/repository`; `tag` None for one that is named by digest. None: no policy."""
        if self.policies is None:
            return None
        from tasks.trust.compiling import ONLY_SIGNED
        from tasks.trust.policy import Mode

        policy = self.policies.for_image(repository, tag)
        if policy.mode is not Mode.SKIP:
            return policy
        return ONLY_SIGNED if self.only_signed else None

    def fingerprint_for(self, repository: str, tag: str | None) -> str:
        """That of `policy_for`, without making the policy; "" for none."""
        if self.policies is None:
            return ""
        return self.policies.fingerprint_for(repository, tag) or (BY_ONLY_SIGNED if self.only_signed else "")

    def keeps_out(self, repository: str, tag: str | None) -> bool:
        """Whether the policy keeps anything out."""
        policy = self.policy_for(repository, tag)
        return policy is not None and policy.keeps_out


def enforces(run: MirrorRun, image: Image) -> bool:
    """Whether a policy keeps out what is not signed by whom the profile trusts."""
    if not run.verification:
        return False
    from tasks.trust.policy import Mode

    policy = policy_of(run, image)
    return policy is not None and policy.mode is Mode.ENFORCE


def is_strict(run: MirrorRun, image: Image) -> bool:
    """Whether a policy keeps out anything at all, or images have to wait (`minAge`)."""
    if has_min_age(run.entry):
        return True
    if not run.verification:
        return False
    policy = policy_of(run, image)
    return policy is not None and policy.keeps_out


def policy_of(run: MirrorRun, image: Image) -> Policy | None:
    """The policy that covers the image under its name here; None: no policy."""
    return run.verification.policy_for(source_name(run.entry, image.source), tag_in(image.reference))


def tag_in(reference: Tag | Digest) -> str | None:
    """The tag as policies take it: None for an image that is named by its digest."""
    return reference if isinstance(reference, Tag) else None
