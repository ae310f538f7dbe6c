"""The store: a pool of immutable blobs, and small files that say which repository holds what."""
