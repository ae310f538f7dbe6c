"""What an image has to have to be admitted: `verify`, and the two keys together."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import PositiveDuration, ProfileModel, RepositoryGlob
from profiles.model.trust.anchors import Trust
from profiles.model.trust.signers import Signer

__all__ = ["Condition", "DefaultRule", "Signatures", "VerificationPart", "Verify", "VerifyRule"]

_SHOWN = 120
_EXAMPLE = "predicate.buildDefinition.buildType == 'https://example.com/build'"
Format = Literal["bundle", "legacy", "notation"]


class Condition:
    """A JMESPath expression over a verified attestation; only exactly `true` fulfils it."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Raises `Refusal`."""
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            raise Refusal(f"not a JMESPath expression ({reason})", f"write e.g. {_EXAMPLE}") from error

    @classmethod
    def parse(cls, value: object) -> Condition:
        """Raises `Refusal`."""
        if isinstance(value, Condition):
            return value
        if not isinstance(value, str):
            raise Refusal("not a text", f"write a JMESPath expression, e.g. {_EXAMPLE}")
        return cls(value)

    def judge(self, document: Any) -> tuple[bool, str]:
        """Whether it holds, and in words why not. Never raises: what cannot be evaluated does not hold."""
        try:
            found = self._compiled.search(document)
        except (JMESPathError, RecursionError, TypeError, ValueError) as error:
            return False, f"its condition cannot be evaluated ({type(error).__name__})"
        if found is True:
            return True, ""
        return False, f"its condition {_short(self.text)} gives {_short(json.dumps(found))}, not true"

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _short(text: str) -> str:
    """For a reason; JSON and JMESPath have no unprintable characters but what others put into a text."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return printable if len(printable) <= _SHOWN else printable[:_SHOWN] + "…"


ConditionText = Annotated[
    Condition,
    PlainValidator(Condition.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": [_EXAMPLE]}),
]


class Remap(ProfileModel):
    """The name in the signature begins with `to` where the image's begins with `prefix`."""

    prefix: str = Field(description="Beginning of the image's name.", examples=["mirror.acme.example/"])
    to: str = Field(description="What stands there in the signature.", examples=["ghcr.io/acme/"])


class Signatures(ProfileModel):
    """Which signatures an image needs."""

    need: int = Field(
        default=1,
        ge=0,
        description="How many of `from` have to have signed, each with another key or identity. 0: none, "
        "attestations decide.",
    )
    from_: tuple[Signer, ...] = Field(default=(), alias="from", description="Who may sign.")
    identity: Literal["ignore", "repository", "exact"] | Remap = Field(
        default="ignore",
        description="Whether the image name in cosign's older signatures has to be this image's: its "
        "repository, or the tag too. Mirrors and renames break it.",
    )
    formats: tuple[Format, ...] = Field(
        default=("bundle", "legacy", "notation"), min_length=1, description="Where signatures are looked for."
    )
    repository: str | None = Field(
        default=None,
        description="Repository of the same registry that holds the signatures (COSIGN_REPOSITORY).",
        examples=["acme/signatures"],
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations that have to be signed with the image."
    )
    min_age: PositiveDuration | None = Field(
        default=None,
        description="How long ago it has to have been signed, by the time of a log or timestamp authority.",
        examples=["48h"],
    )
    index_children: Literal["inherit", "each"] = Field(
        default="inherit",
        description="`inherit`: the signature of an index covers its platforms. `each`: each needs its own.",
    )
    accept_predicates: tuple[str, ...] = Field(
        default=(),
        description="Attestations that count as signatures. Default: only what `cosign sign` makes.",
        examples=[["https://slsa.dev/provenance/v1"]],
    )


class RequiredAttestation(ProfileModel):
    """An attestation that an image needs."""

    predicate_type: str = Field(description="Its type.", examples=["https://slsa.dev/provenance/v1"])
    from_: tuple[str, ...] = Field(alias="from", min_length=1, description="Names of `signatures.from`.")
    need: int = Field(default=1, ge=1, description="How many of `from` have to attest.")
    condition: ConditionText | None = Field(
        default=None,
        description="JMESPath over `statement`, `predicate`, `subject_digest`, `identity` and `issuer`; it "
        "has to give the boolean true.",
    )


class VerifyRule(ProfileModel):
    """What images of some repositories need."""

    match: tuple[RepositoryGlob, ...] = Field(
        min_length=1,
        description="Patterns for the source: registry and repository, e.g. `ghcr.io/acme/**`.",
        examples=[["ghcr.io/acme/**"]],
    )
    tags: tuple[RepositoryGlob, ...] = Field(
        default=(),
        description="Patterns for tags. Default: all. What is pulled by digest never falls under a milder "
        "rule for tags, and always under an enforcing one.",
        examples=[["v*"]],
    )
    mode: Literal["enforce", "warn", "presence", "skip"] = Field(
        default="enforce",
        description="`enforce`: what fails stays out. `warn`: it comes in, and the report says so. "
        "`presence`: something signature-like is enough, and is never called verified. `skip`: nothing is "
        "looked up.",
    )
    on_failure: Literal["keep", "hide", "delete"] | None = Field(
        default=None,
        description="What becomes of a stored image that falls short, because the rule, a key or a "
        "revocation list has changed. `hide`: it is kept and not served, until a poll finds that it passes. "
        "`keep`: it is served, and reported. `delete`: it goes, unless the upstream has a good signature. "
        "Default: `hide`; `keep` for `warn`.",
        examples=["hide"],
    )
    signatures: Signatures = Field(default_factory=Signatures, description="Signatures that it needs.")
    attestations: tuple[RequiredAttestation, ...] = Field(
        default=(), description="Attestations that it needs as well, all of them."
    )

    @property
    def failure_action(self) -> Literal["keep", "hide", "delete"]:
        """What becomes of a stored image that falls short."""
        return self.on_failure or ("keep" if self.mode == "warn" else "hide")

    @model_validator(mode="after")
    def _check_satisfiable(self) -> Self:
        refusals = list(self._refusals()) if self.mode in ("enforce", "warn") else []
        if refusals:
            raise Refusals(tuple(refusals))
        return self

    def _refusals(self) -> list[Refusal]:
        signers = self.signatures.from_
        names = [signer.name for signer in signers]
        found = []
        if not names:
            found.append(Refusal("nobody may sign", "add signers", at=("signatures", "from")))
        if len(set(names)) != len(names):
            found.append(Refusal("two signers have one name", "rename one", at=("signatures", "from")))
        if names and self.signatures.need > len(names):
            found.append(Refusal("more are needed than may sign", "lower need", at=("signatures", "need")))
        if not self.signatures.need and not self.attestations:
            found.append(Refusal("nothing is needed", "write 'mode: skip'", at=("signatures", "need")))
        if self.mode == "warn" and self.failure_action != "keep":
            found.append(
                Refusal(
                    "a rule that only warns hides nothing",
                    "drop it, or write 'mode: enforce'",
                    at=("onFailure",),
                )
            )
        if self.mode == "enforce":
            found += [_audit(number) for number, signer in enumerate(signers) if signer.only_logs_failures]
        for number, wanted in enumerate(self.attestations):
            found += _unknown_names(wanted, names, number)
        return found


def _audit(number: int) -> Refusal:
    return Refusal(
        "whoever signed is only logged, and the rule enforces",
        "write 'mode: warn', or enforce authenticity",
        at=("signatures", "from", number, "level"),
    )


def _unknown_names(wanted: RequiredAttestation, names: list[str], number: int) -> list[Refusal]:
    found = [
        Refusal(
            f"{name!r} is not in signatures.from", "add it there", at=("attestations", number, "from", at)
        )
        for at, name in enumerate(wanted.from_)
        if name not in names
    ]
    if wanted.need > len(set(wanted.from_)):
        found.append(
            Refusal("more are needed than may attest", "lower need", at=("attestations", number, "need"))
        )
    return found


class DefaultRule(ProfileModel):
    """What holds for images that no rule matches."""

    mode: Literal["enforce", "warn"] = Field(default="enforce", description="As in a rule.")
    require: Literal["reject", "accept"] = Field(
        default="reject", description="`reject`: they fail. `accept`: they pass, unverified."
    )


class Verify(ProfileModel):
    """Rules for admission; the first that matches an image holds."""

    default: DefaultRule = Field(
        default_factory=DefaultRule, description="What holds where no rule matches. Default: it stays out."
    )
    rules: tuple[VerifyRule, ...] = Field(default=(), description="In the order in which they are tried.")
    record_verdicts: bool = Field(
        default=False,
        description="Whether the verdict on each admitted image is stored with it, as a referrer of "
        "type `application/vnd.mirrorflow.verdict.v1+json`.",
    )


class VerificationPart(ProfileModel):
    """`trust` and `verify` of a profile, which only together can be checked."""

    trust: Trust = Field(default_factory=Trust, description="Whom to trust, by name.")
    verify: Verify | None = Field(
        default=None, description="What images need to be admitted. Default: nothing is verified."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        refusals = [
            Refusal(
                refusal.found,
                refusal.write,
                at=("verify", "rules", rule, "signatures", "from", at, *refusal.at),
                cause=refusal.cause,
            )
            for rule, found in enumerate(self.verify.rules if self.verify else ())
            for at, signer in enumerate(found.signatures.from_)
            for refusal in signer.missing_trust(self.trust)
        ]
        if refusals:
            raise Refusals(tuple(refusals))
        return self
