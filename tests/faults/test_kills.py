"A run that ends before its time leaves the old model or the new one, whole, and the same command goes on to the same weights"
import pytest
from disasters import kills, stops, twice_at_once
from commands import stages

pytest_plugins, pytestmark = 'tiny_models', pytest.mark.slow

@pytest.mark.parametrize('stage', stages)
def test_kill_9(home, without_faults, stage):
    found = without_faults(kills(home, stage, 8))
    assert found['killed'] >= found['tried']-2 and found['events'] > 20   # one at a random moment may come too late

@pytest.mark.parametrize('stage', stages)
def test_term_hup_and_ctrl_c(home, without_faults, stage): without_faults(stops(home, stage, 3))

@pytest.mark.parametrize('stage', stages)
def test_two_runs_with_one_out(home, without_faults, stage): without_faults(twice_at_once(home, stage, 2))
