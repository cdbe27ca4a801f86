"""The folder of migrations is in order: two parts that add one at a time take two numbers."""

import pytest

from cloud.migrate import read_migrations
from cloud.storage import Storage


@pytest.mark.parametrize("storage", list(Storage))
def test_every_migration_has_a_number_of_its_own(storage: Storage) -> None:
    numbers = [migration.number for migration in read_migrations(storage)]
    assert numbers == sorted(set(numbers))
