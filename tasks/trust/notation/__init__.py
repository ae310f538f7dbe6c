"""Signatures of the Notary Project (notation): specifications/specs/signature-specification.md, trust-store-
trust-policy.md and signing-and-verification-workflow.md at notaryproject/specifications."""
