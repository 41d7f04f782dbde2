"Where a model cannot be written it is refused at once; where the disk ends, nothing is lost"
import pytest
from commands import stages
from disasters import can_mount, files_that_cannot_grow, full_disks, good_link, one_stream, readers_beside_writers, refusals

pytest_plugins, pytestmark = 'tiny_models', pytest.mark.slow

@pytest.mark.parametrize('stage', stages)
def test_bad_places_are_refused_at_once(home, without_faults, stage): without_faults(refusals(home, stages=[stage]))

@pytest.mark.parametrize('stage', stages)
def test_links(home, without_faults, stage): without_faults(good_link(home, stage))

@pytest.mark.parametrize('stage', stages)
def test_a_full_disk(home, without_faults, stage):
    if not can_mount(): pytest.skip('only root can mount a small disk')
    assert without_faults(full_disks(home, stage, 3))['full']

@pytest.mark.parametrize('stage', stages)
def test_a_disk_that_takes_no_more(home, without_faults, stage): assert without_faults(files_that_cannot_grow(home, stage, 2))['full']

def test_readers_beside_writers(home, without_faults):
    found = without_faults(readers_beside_writers(home, 4))
    assert found['reads'] > 10 and found['writes'] > 2

def test_several_want_one_stream(home, without_faults): without_faults(one_stream(home, 2))
