"""What a rule of `verify` asks for, as one short text: equal for two rules exactly when they judge alike.

The store keeps it with each tag (`judgedBy`), so that a changed rule, a replaced key or a new revocation list
is noticed without judging anything. Computed from the loaded profile alone: no verifier is imported.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from profiles.model.trust.anchors import Trust
    from profiles.model.trust.signers import Signer
    from profiles.model.trust.verification import VerifyRule

# Raise it when the verifier itself judges differently: then everything that is stored is judged again.
_VERSION: Final = 1
_LENGTH: Final = 32  # hex digits
# What does not change whether an image passes: which images the rule is for, what follows when one fails, and
# where files are whose content is part of the fingerprint.
_EXCLUDED: Final[dict[str, Any]] = {
    "match": True,
    "tags": True,
    "on_failure": True,
    "signatures": {"from_": {"__all__": {"roots", "intermediates"}}},
}

BY_ONLY_SIGNED: Final = "onlySigned"
"""The fingerprint of `onlySigned: true` where no rule says more."""
BY_NO_RULE: Final = "no rule"
"""The fingerprint of `verify.default`, which nothing can satisfy."""


def fingerprint(rule: VerifyRule, trust: Trust) -> str:
    """32 hex digits over the rule and over the keys, certificates and lists that it uses."""
    document = {
        "version": _VERSION,
        "rule": rule.model_dump(mode="json", exclude=_EXCLUDED),
        "material": [_material(signer, trust) for signer in rule.signatures.from_],
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _material(signer: Signer, trust: Trust) -> list[str]:
    """Hashes of all that the signer is recognised by, in the order of the profile."""
    found: list[bytes] = []
    if signer.key is not None:
        found += trust.keys[signer.key].material
    if signer.root is not None:
        found += trust.sigstore[signer.root].material
    for reference in signer.stores:
        store = trust.notation.store(reference)
        found += store.material if store else ()
    if signer.stores:
        found += trust.notation.revocation_lists
    found += signer.material
    return [hashlib.sha256(each).hexdigest() for each in found]
