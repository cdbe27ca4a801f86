"""The folder of migrations is in order, before anybody needs a database to find out."""

import pytest

from cloud.migrate import read_migrations
from cloud.storage import Storage


@pytest.mark.parametrize("storage", list(Storage))
def test_every_migration_has_a_number_of_its_own(storage: Storage) -> None:
    numbers = [one.number for one in read_migrations(storage)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1
