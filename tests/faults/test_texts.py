"Texts that nobody should write: an answer or one line that says why not, the same by every way in"
import pytest
from texts import every_way, generated

pytest_plugins, pytestmark = 'tiny_models', pytest.mark.slow

def test_every_way_in(home, without_faults):
    found = without_faults(every_way(home, 200))
    assert found['texts'] == 200 and found['asked'] > 1000 and found['nan'] == 0

def test_the_same_texts_for_the_same_seed(): assert generated(50, 1) == generated(50, 1) != generated(50, 2)
