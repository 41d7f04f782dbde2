"What the tests of this folder begin with; a plugin, for a second `conftest` would hide the one of `tests/browser`"
import pytest
from commands import make_home

@pytest.fixture(scope='session')
def home(tmp_path_factory): return make_home(tmp_path_factory.mktemp('home').resolve())

@pytest.fixture
def without_faults():
    "Fails with the first faults of a record"
    def check(found):
        assert not found['faults'], '\n'.join(found['faults'][:10])
        return found
    return check
