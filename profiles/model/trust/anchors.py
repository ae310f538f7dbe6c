"""Whom a profile trusts: `trust`, by names that the rules of `verify` use.

Files are read, and keys, certificates and roots checked, while the profile is loaded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, ProfilePath
from profiles.model.trust.key_material import (
    certificates_in_der,
    check_revocation_list,
    check_trusted_root,
    key_in_der,
    read_certificates,
    read_file,
    read_public_key,
    read_public_keys,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from profiles.model.trust.key_material import PublicKey

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refusal(f"{name!r} is not a name", "write letters, digits, '.', '_' and '-'")
    return name


TrustName = Annotated[str, AfterValidator(_named)]


class TrustedSigstore(ProfileModel):
    """One Sigstore: the public one, or a private one by its file. Exactly one of the keys is given."""

    builtin: Literal["production", "staging"] | None = Field(
        default=None,
        description="`production`: the public Sigstore, as the installed sigstore library knows it. Nothing "
        "is fetched.",
        examples=["production"],
    )
    file: ProfilePath | None = Field(
        default=None,
        description="A `trusted_root.json`, relative to the profile.",
        examples=["trust/trusted_root.json"],
    )
    rekor_keys: tuple[ProfilePath, ...] = Field(
        default=(),
        description="Public keys (PEM) of transparency logs alone: enough for signatures by keys.",
        examples=[["trust/rekor.pub"]],
    )
    _content: bytes = PrivateAttr(b"")
    _keys: tuple[bytes, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _load(self) -> Self:
        if (self.builtin is not None) + (self.file is not None) + bool(self.rekor_keys) != 1:
            raise Refusal("a Sigstore is named in one way", "write one of builtin, file and rekorKeys")
        if self.file is not None:
            self._content = read_file(self.file)
            check_trusted_root(self._content, self.file)
        self._keys = tuple(read_file(path) for path in self.rekor_keys)
        for content in self._keys:
            read_public_key(content)
        return self

    @property
    def material(self) -> tuple[bytes, ...]:
        """What it consists of: equal for equal content, whatever its files are called."""
        return (self.builtin.encode(),) if self.builtin else (self._content, *self._keys)

    @property
    def content(self) -> bytes:
        """The file's content."""
        return self._content

    @property
    def log_keys(self) -> tuple[bytes, ...]:
        """PEM texts of `rekorKeys`."""
        return self._keys


class TrustedKey(ProfileModel):
    """A public key that images are signed with; or several in one PEM text, any of which counts."""

    file: ProfilePath | None = Field(
        default=None, description="PEM file, relative to the profile.", examples=["trust/acme.pub"]
    )
    pem: str | None = Field(default=None, description="The PEM text itself.")
    hash: Literal["auto", "sha256", "sha384", "sha512"] = Field(
        default="auto",
        description="The hash under the signature. `auto`: what cosign uses, which is SHA-256, or the "
        "curve's own (SHA-384 for P-384, SHA-512 for P-521). Ed25519 keys need none: Ed25519 and Ed25519ph "
        "both count.",
    )
    _keys: tuple[Any, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _load(self) -> Self:
        if (self.file is None) == (self.pem is None):
            raise Refusal("a key is given in one way", "write either file or pem")
        self._keys = read_public_keys(read_file(self.file) if self.file else (self.pem or "").encode())
        return self

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Any of them signs: during a rotation there are two."""
        return self._keys

    @property
    def material(self) -> tuple[bytes, ...]:
        """The keys, however they are written, and the hash under their signatures."""
        return (*map(key_in_der, self._keys), self.hash.encode())


class CertificateStore(ProfileModel):
    """Certificates that vouch for others."""

    files: tuple[ProfilePath, ...] = Field(
        min_length=1,
        description="Certificate files, PEM or DER, relative to the profile.",
        examples=[["trust/acme-ca.pem"]],
    )
    _certificates: tuple[Any, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _short(cls, found: object) -> object:
        """`acme-ca: [ca.pem]` says the same as `acme-ca: {files: [ca.pem]}`."""
        return {"files": found} if isinstance(found, list | tuple) else found

    @model_validator(mode="after")
    def _load(self) -> Self:
        self._certificates = tuple(each for path in self.files for each in read_certificates(path))
        return self

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return self._certificates

    @property
    def material(self) -> tuple[bytes, ...]:
        return certificates_in_der(self._certificates)


class NotationTrust(ProfileModel):
    """Trust stores of the Notary Project, by type and name, and revocation lists."""

    ca: dict[TrustName, CertificateStore] = Field(
        default_factory=dict, description="CAs that signing certificates come from."
    )
    signing_authority: dict[TrustName, CertificateStore] = Field(
        default_factory=dict, description="CAs of services that sign for others and date it themselves."
    )
    tsa: dict[TrustName, CertificateStore] = Field(
        default_factory=dict, description="Roots of timestamp authorities."
    )
    crls: tuple[ProfilePath, ...] = Field(
        default=(),
        description="Revocation lists, PEM or DER, relative to the profile. Nothing is fetched: keep them "
        "fresh.",
        examples=[["trust/acme.crl"]],
    )
    _lists: tuple[bytes, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _load(self) -> Self:
        self._lists = tuple(read_file(path) for path in self.crls)
        for path, content in zip(self.crls, self._lists, strict=True):
            check_revocation_list(content, path)
        return self

    @property
    def revocation_lists(self) -> tuple[bytes, ...]:
        return self._lists

    def store(self, reference: str) -> CertificateStore | None:
        """By `type:name`, as rules name it; None: there is none."""
        kind, _, name = reference.partition(":")
        stores = {"ca": self.ca, "signingAuthority": self.signing_authority, "tsa": self.tsa}
        return stores.get(kind, {}).get(name)


class Trust(ProfileModel):
    """Named keys, certificates and roots. None of them means anything until a rule uses it."""

    sigstore: dict[TrustName, TrustedSigstore] = Field(
        default_factory=dict, description="Sigstores: CAs of identities, transparency logs, timestamps."
    )
    keys: dict[TrustName, TrustedKey] = Field(default_factory=dict, description="Public keys.")
    notation: NotationTrust = Field(
        default_factory=NotationTrust, description="Trust stores of the Notary Project."
    )
