"""Who may sign: the entries of a rule's `signatures.from`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, PrivateAttr, WithJsonSchema, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, ProfilePath
from profiles.model.trust.anchors import TrustName
from profiles.model.trust.key_material import certificates_in_der, read_certificates, read_subject
from profiles.patterns.regex import IdentityPattern

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from profiles.model.trust.anchors import Trust

CheckName = Literal["authenticity", "authenticTimestamp", "expiry", "revocation"]
_KEYS = {
    "key": {"key", "transparency", "root"},
    "keyless": {"root", "issuer", "issuer_regexp", "subject", "subject_regexp", "extensions"},
    "notation": {"stores", "identities", "level", "override", "verify_timestamp"},
    "x509": {"roots", "intermediates", "subject_email", "hostname"},
}
_SHARED = {"name", "type"}


IdentityRegexp = Annotated[
    IdentityPattern,
    PlainValidator(IdentityPattern.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "regex", "examples": [r"https://github\.com/acme/.+"]}),
]


class Extensions(ProfileModel):
    """What a Fulcio certificate has to say of the build that it was made for, each exactly."""

    build_signer_uri: str | None = Field(default=None, description="URI of the workflow that signed.")
    build_signer_digest: str | None = Field(default=None, description="Commit of the workflow that signed.")
    runner_environment: str | None = Field(default=None, description="`github-hosted` or `self-hosted`.")
    source_repository_uri: str | None = Field(default=None, description="URI of the source repository.")
    source_repository_digest: str | None = Field(default=None, description="Commit of the source.")
    source_repository_ref: str | None = Field(
        default=None, description="Branch or tag of the source, e.g. `refs/heads/main`."
    )
    source_repository_identifier: str | None = Field(
        default=None, description="Number of the source repository."
    )
    source_repository_owner_uri: str | None = Field(default=None, description="URI of its owner.")
    source_repository_owner_identifier: str | None = Field(default=None, description="Number of its owner.")
    source_repository_visibility: str | None = Field(default=None, description="`public` or `private`.")
    build_config_uri: str | None = Field(
        default=None, description="URI of the top-level build configuration."
    )
    build_config_digest: str | None = Field(
        default=None, description="Commit of the top-level build configuration."
    )
    build_trigger: str | None = Field(default=None, description="What started the build, e.g. `push`.")
    run_invocation_uri: str | None = Field(default=None, description="URI of the run.")
    github_workflow_trigger: str | None = Field(
        default=None, description="GitHub's older name of what started it."
    )
    github_workflow_sha: str | None = Field(default=None, description="GitHub's older name of the commit.")
    github_workflow_name: str | None = Field(default=None, description="Name of the GitHub workflow.")
    github_workflow_repository: str | None = Field(
        default=None, description="GitHub's older name of the repository."
    )
    github_workflow_ref: str | None = Field(
        default=None, description="GitHub's older name of the branch or tag."
    )

    def wanted(self) -> dict[str, str]:
        """Those that are given, by their names here."""
        return {name: value for name, value in self if value is not None}


class Override(ProfileModel):
    """How single checks are taken, whatever the level says."""

    authenticity: Literal["enforce", "log"] | None = Field(
        default=None, description="Whether the certificates lead to a trusted one."
    )
    authentic_timestamp: Literal["enforce", "log"] | None = Field(
        default=None, description="Whether it was signed while the certificates were valid."
    )
    expiry: Literal["enforce", "log"] | None = Field(
        default=None, description="Whether the signature has not expired by its own word."
    )
    revocation: Literal["enforce", "log", "skip"] | None = Field(
        default=None, description="Whether a certificate has been revoked."
    )


class Signer(ProfileModel):
    """A permitted signer. `type` says which of the other keys apply."""

    name: TrustName = Field(description="What verdicts and other keys of the rule call it.", examples=["ci"])
    type: Literal["key", "keyless", "notation", "x509"] = Field(
        description="`key`: cosign with a key. `keyless`: cosign with an identity. `notation`: the Notary "
        "Project. `x509`: cosign with certificates of a CA of one's own.",
        examples=["keyless"],
    )
    key: str | None = Field(default=None, description="Name in `trust.keys`.", examples=["acme"])
    transparency: Literal["required", "optional", "ignore"] | None = Field(
        default=None,
        description="Whether a signature by the key has to be in a transparency log of `root`. `optional`: "
        "what is there has to be right. Default: `required` with a `root`, else `ignore`.",
    )
    root: str | None = Field(default=None, description="Name in `trust.sigstore`.", examples=["public"])
    issuer: str | None = Field(
        default=None,
        description="The issuer of the identity, exactly.",
        examples=["https://token.actions.githubusercontent.com"],
    )
    issuer_regexp: IdentityRegexp | None = Field(default=None, description="The same, as a whole.")
    subject: str | None = Field(
        default=None, description="The identity in the certificate, exactly.", examples=["dev@acme.example"]
    )
    subject_regexp: IdentityRegexp | None = Field(default=None, description="The same, as a whole.")
    extensions: Extensions = Field(
        default_factory=Extensions, description="What else the certificate must contain."
    )
    stores: tuple[str, ...] = Field(
        default=(),
        description="`type:name` of `trust.notation`.",
        examples=[["ca:acme-ca", "tsa:digicert"]],
    )
    identities: tuple[str, ...] = Field(
        default=(),
        description="`x509.subject: C=…, ST=…, O=…`: certificates with all of these in their subject. `*`: "
        "all that the stores vouch for.",
        examples=[["x509.subject: C=US, ST=WA, O=acme"]],
    )
    level: Literal["strict", "permissive", "audit"] = Field(
        default="strict", description="How strictly the Notary Project's checks are taken."
    )
    override: Override = Field(default_factory=Override, description="Single checks.")
    verify_timestamp: Literal["always", "afterCertExpiry"] = Field(
        default="always", description="When a timestamp is needed, given a `tsa` store."
    )
    roots: tuple[ProfilePath, ...] = Field(default=(), description="CA certificates, PEM or DER.")
    intermediates: tuple[ProfilePath, ...] = Field(default=(), description="Certificates in between.")
    subject_email: str | None = Field(default=None, description="E-mail address in the certificate.")
    hostname: str | None = Field(default=None, description="DNS name in the certificate.")
    _roots: tuple[Any, ...] = PrivateAttr(())  # certificates
    _intermediates: tuple[Any, ...] = PrivateAttr(())
    _subjects: tuple[frozenset[tuple[str, str]], ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        foreign = sorted(self.model_fields_set - _KEYS[self.type] - _SHARED)
        if foreign:
            alias = type(self).model_fields[foreign[0]].alias or foreign[0]
            raise Refusal(f"{alias!r} means nothing for type {self.type}", "drop it", at=(alias,))
        check = {"key": self._key, "keyless": self._keyless, "notation": self._notation, "x509": self._ca}
        check[self.type]()
        return self

    @property
    def root_certificates(self) -> tuple[Certificate, ...]:
        return self._roots

    @property
    def intermediate_certificates(self) -> tuple[Certificate, ...]:
        return self._intermediates

    @property
    def material(self) -> tuple[bytes, ...]:
        """The certificates that it names itself."""
        return certificates_in_der((*self._roots, *self._intermediates))

    @property
    def subjects(self) -> tuple[frozenset[tuple[str, str]], ...] | None:
        """Trusted identities; None: any."""
        return None if self.identities == ("*",) else self._subjects

    @property
    def wanted_transparency(self) -> Literal["required", "optional", "ignore"]:
        return self.transparency or ("required" if self.root else "ignore")

    @property
    def only_logs_failures(self) -> bool:
        """Whether it only logs that nobody trusted has signed."""
        return (self.override.authenticity or ("log" if self.level == "audit" else "enforce")) == "log"

    def missing_trust(self, trust: Trust) -> list[Refusal]:
        """What it names and `trust` does not have."""
        found = []
        if self.key is not None and self.key not in trust.keys:
            found.append(_unknown("key", self.key, "trust.keys", ("trust", "keys", self.key)))
        if self.root is not None and self.root not in trust.sigstore:
            found.append(_unknown("root", self.root, "trust.sigstore", ("trust", "sigstore", self.root)))
        elif self.root is not None and self.type == "keyless" and trust.sigstore[self.root].rekor_keys:
            found.append(Refusal("that root knows no CA", "name one with builtin or file", at=("root",)))
        for number, store in enumerate(self.stores):
            if trust.notation.store(store) is None:
                cause = ("trust", "notation", *store.split(":", 1))
                found.append(_unknown("stores", store, "trust.notation", cause, number))
        return found

    def _key(self) -> None:
        if self.key is None:
            raise Refusal("it names no key", "add 'key:' with a name of trust.keys", at=("key",))
        if self.wanted_transparency != "ignore" and self.root is None:
            raise Refusal(
                "no root names the logs", "add 'root:', or write 'transparency: ignore'", at=("root",)
            )

    def _keyless(self) -> None:
        if self.root is None:
            raise Refusal("it names no root", "add 'root:' with a name of trust.sigstore", at=("root",))
        for name in ("issuer", "subject"):
            given = (getattr(self, name), getattr(self, f"{name}_regexp"))
            if (given[0] is None) == (given[1] is None):
                # Anybody can have a certificate of the public Sigstore: both together say who.
                raise Refusal(
                    f"an identity is an issuer and a subject, and {name} is given "
                    f"{'twice' if given[0] is not None else 'nowhere'}",
                    f"write either {name} or {name}Regexp",
                    at=(name,),
                )

    def _notation(self) -> None:
        if not any(store.startswith(("ca:", "signingAuthority:")) for store in self.stores):
            raise Refusal("no store vouches for signers", "add e.g. 'ca:acme-ca'", at=("stores",))
        if not self.identities or ("*" in self.identities and len(self.identities) > 1):
            raise Refusal(
                "'*' stands alone, or subjects are listed", "write who may sign", at=("identities",)
            )
        if self.identities == ("*",):
            return
        self._subjects = tuple(read_subject(text) for text in self.identities)
        for number, one in enumerate(self._subjects):
            if any(one <= other or other <= one for other in self._subjects[:number]):
                raise Refusal(
                    "one identity contains another", "keep the one that is meant", at=("identities",)
                )

    def _ca(self) -> None:
        if not self.roots:
            raise Refusal("it names no CA", "add 'roots:' with certificate files", at=("roots",))
        if self.subject_email is None and self.hostname is None:
            raise Refusal("it says not who may sign", "add subjectEmail or hostname", at=("subjectEmail",))
        self._roots = tuple(each for path in self.roots for each in read_certificates(path))
        self._intermediates = tuple(each for path in self.intermediates for each in read_certificates(path))


def _unknown(key: str, name: str, where: str, cause: tuple[str, ...], number: int | None = None) -> Refusal:
    at: tuple[str | int, ...] = (key,) if number is None else (key, number)
    return Refusal(f"{name!r} is not in {where}", "name one that is there, or add it", at=at, cause=cause)
