"""The verdicts on an image that is to stand somewhere else in the store, from the signatures in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag
from tasks.run.values import NO_POLICY
from tasks.stored.images import StoredImages, held_children

if TYPE_CHECKING:
    from profiles.model.profile import Profile
    from registry_server.oci.reference import ImageName, RepositoryName
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store
    from tasks.trust.compiling import Policies
    from tasks.trust.policy import Policy


class ImageNotAdmitted(MirrorflowError):
    """A policy refuses an image of the set."""


@dataclass(slots=True)
class PromotionJudge:
    """Judges by the policy that covers where an image came from, and by the rule that names where it goes."""

    profile: Profile
    store: Store
    _images: StoredImages = field(init=False)
    _policies: Policies | None = None

    def __post_init__(self) -> None:
        self._images = StoredImages(self.profile, self.store)
        if self.profile.verify is not None:
            from tasks.trust.compiling import Policies

            self._policies = Policies(self.profile.trust, self.profile.verify)

    def verdict_on(self, name: RepositoryName, target: ImageName, called: str, record: TagRecord) -> str:
        """The verdicts on an image of `name` that is to be `target`, in words.

        `called`: what rules of `verify` call the repository where it goes. Raises `ImageNotAdmitted`, and
        what judging raises.
        """
        assert isinstance(target.reference, Tag), "tags are promoted"
        stored = self._images.described(name, target.reference, record)
        said = []
        if stored is not None and self._images.policy_of(stored) is not None:
            verdict = self._images.judge(stored)
            assert verdict is not None, "a policy covers it"
            if not verdict.admits:
                raise ImageNotAdmitted(verdict.summary)
            said.append(verdict.summary)
        policy = self._policy_of_target(called, target.reference, came=stored is not None)
        if policy is not None:
            held, reference = self.store.repository(name), f"{called}:{target.reference}"
            said.append(self._by_target(held, reference, record, policy))
        return "; ".join(dict.fromkeys(said)) or NO_POLICY

    def keeps_out(self, name: RepositoryName, target: ImageName, called: str, record: TagRecord) -> bool:
        """Whether a policy of either place keeps anything out: then only known formats follow the image."""
        assert isinstance(target.reference, Tag), "tags are promoted"
        stored = self._images.described(name, target.reference, record)
        policies = (
            self._images.policy_of(stored) if stored is not None else None,
            self._policy_of_target(called, target.reference, came=stored is not None),
        )
        return any(each is not None and each.keeps_out for each in policies)

    def _policy_of_target(self, called: str, tag: Tag, *, came: bool) -> Policy | None:
        """The rule that names where it goes; for what no registry entry brought also the default."""
        if self._policies is None:
            return None
        if came and self._policies.rule_for(called, tag) is None:
            return None
        from tasks.trust.policy import Mode

        policy = self._policies.for_image(called, tag)
        return None if policy.mode is Mode.SKIP else policy

    def _by_target(self, held: Repository, reference: str, record: TagRecord, policy: Policy) -> str:
        from tasks.trust.judging import judge_image
        from tasks.trust.sources import StoreSource

        digest = record.upstream_digest
        verdict = judge_image(
            digest,
            held.find_manifest(digest).descriptor.media_type,
            StoreSource(held, self.store.hidden(held.name)),
            policy,
            children=lambda each: held_children(held, each.digest),
            reference=reference,
        )
        if not verdict.admits:
            raise ImageNotAdmitted(f"{verdict.summary} ({policy.name})")
        return verdict.summary
