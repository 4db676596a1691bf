"""Buckets of S3, Google Cloud Storage and Azure: addresses, reading, writing under a condition, mirrors.

Needs the extra `s3`, which is imported where a store is opened. What registries and sources make of a store
lies with them.
"""

from embup_core.object_store.address import ObjectPath, batch_path, is_address, parsed_address
from embup_core.object_store.mirror import MirroredFolder, mirror_prefix, remember_uploaded
from embup_core.object_store.store import NEW, ObjectStore, StoredObject

__all__ = [
    "NEW",
    "MirroredFolder",
    "ObjectPath",
    "ObjectStore",
    "StoredObject",
    "batch_path",
    "is_address",
    "mirror_prefix",
    "parsed_address",
    "remember_uploaded",
]
