"A service holds its memory and its answers"
import pytest
from services import can_serve, long_texts, many_texts, many_threads, visitors

pytest_plugins, pytestmark = 'tiny_models', pytest.mark.slow

def test_a_long_text(home, without_faults): without_faults(long_texts(home, 50_000))

def test_many_texts(home, without_faults): without_faults(many_texts(home, 1000))

def test_threads(home, without_faults): without_faults(many_threads(home, 8, 40))

@pytest.mark.skipif(not can_serve, reason='the app needs voila')
def test_visitors(home, without_faults): assert without_faults(visitors(home, 2))['served']
