"""Partitions' names, in subjects and back."""

import uuid

import pytest

from kit.partitions import in_shared, name_of, partition_of


@pytest.mark.parametrize("prefix", ["meta", "send.live"])
def test_a_tenants_partition_has_a_shared_one_beside_it(prefix):
    assert in_shared(f"{prefix}.{name_of(12, str(uuid.uuid4()))}") == f"{prefix}.12"


@pytest.mark.parametrize(
    "subject", ["meta.3", "send.bulk.0", "events.a.b.c.0198c0de-0000-7000-8000-000000000001", "meta.x-3", ""]
)
def test_other_subjects_stay_as_they_are(subject):
    assert in_shared(subject) == subject


def test_a_key_has_the_partition_that_it_always_had():
    # Changing these moves what is queued.
    assert [partition_of(key, 8) for key in ("100000000000042/5511987654321", "", "a")] == [5, 0, 3]
