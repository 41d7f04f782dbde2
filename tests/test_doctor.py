"The doctor: one screen, no network, and a part that fails leaves the others alone"
import json, socket, subprocess, sys, time
import pytest
from ulmfit_course import backends, cli, doctor as doctor_module
from ulmfit_course.core import as_text
from ulmfit_course.doctor import doctor, in_words, measured_rates

parts = 'processor', 'rates', 'precision', 'room', 'gpu', 'models', 'lab', 'versions', 'settings'
some_rates = dict(float32=dict(one=4000, many=21_000), int8=dict(one=24_000, many=40_000))

@pytest.fixture(autouse=True)
def course_folder(tmp_path, monkeypatch):
    "A folder of the course in which nothing has been measured, and a quick way to measure"
    monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))
    monkeypatch.delenv('ULMFIT_COURSE_PRECISION', raising=False)
    monkeypatch.setattr(backends, 'measured_rate', lambda p: some_rates.get(p, some_rates['float32']))
    backends.machine_rates.cache_clear()
    yield tmp_path/'home'
    backends.machine_rates.cache_clear()

def test_it_answers_without_a_network(monkeypatch):
    def no_network(*args): raise AssertionError('it asks the network')
    for name in ('connect', 'connect_ex'): monkeypatch.setattr(socket.socket, name, no_network)
    monkeypatch.setattr(socket, 'getaddrinfo', no_network)
    found = doctor()
    assert tuple(found) == parts and 'fault' not in str(found) and json.loads(json.dumps(found)) == found
    lines = as_text(in_words(found)).splitlines()
    assert len(lines) <= 24 and lines[-1].startswith('report: put the lines above into your report')
    assert 'about 71 reviews of 230 words a second' in as_text(in_words(found))

def test_rates_are_measured_once(course_folder, monkeypatch):
    assert measured_rates()['measured'] == 'now' and measured_rates()['measured'] == 'before'
    backends.machine_rates.cache_clear()   # another process
    assert measured_rates()['measured'] == 'before' and 'kept; again with --again' in in_words(doctor())['measured']
    monkeypatch.setattr(backends, 'measured_rate', lambda p: dict(one=1, many=2))
    again = measured_rates(again=True)
    assert again['measured'] == 'now' and again['rates']['float32'] == dict(one=1, many=2)

def test_a_folder_that_cannot_be_written(course_folder):
    course_folder.write_text('a file')
    found = doctor(again=True)
    assert found['rates']['measured'] == 'now' and not found['room']['writable']
    assert 'which cannot be written' in in_words(found)['disk']

@pytest.mark.parametrize('wish, said', [(None, 'int8, chosen by measuring'), ('float32', 'float32, chosen by ULMFIT_COURSE_PRECISION'),
                                        ('float7', "not known (CourseError: unknown precision 'float7'")])
def test_what_was_wished_for_is_said(monkeypatch, wish, said):
    if wish: monkeypatch.setenv('ULMFIT_COURSE_PRECISION', wish)
    lines = in_words(doctor())
    assert lines['precision'].startswith(said) and ('ULMFIT_COURSE_PRECISION' in lines['settings']) == bool(wish)

@pytest.mark.parametrize('part, name', [*zip(parts, ('processor', 'measured_rates', 'chosen_precision', 'room', 'gpus', 'model_states', 'versions_of', 'environment'))])
def test_a_part_fails_alone(monkeypatch, part, name):
    def broken(*args, **kw): raise OSError(5, 'on two\nlines \x1b[31m')
    monkeypatch.setattr(doctor_module, name, broken)
    found = doctor()
    assert [k for k in found if 'fault' in found[k]] == [part]
    line = in_words(found)[part]
    assert line.startswith('not known (OSError: ') and '\n' not in line and '\x1b' not in line

def test_without_torch():
    "The command answers what it can, and names what is missing"
    code = 'import sys; sys.modules["torch"] = None; from ulmfit_course.cli import main; sys.exit(main(["doctor"]))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and 'Traceback' not in done.stdout
    lines = dict(l.split(': ', 1) for l in done.stdout.splitlines())
    assert 'torch' in lines['processor'] and lines['processor'].startswith('not known (') and ' GB, ' in lines['memory'] and lines['report']

def test_the_command(capsys):
    assert cli.main(['doctor', '--json']) == 0
    assert tuple(json.loads(capsys.readouterr().out)) == parts
    assert cli.main(['doctor', '--again']) == 0
    out = capsys.readouterr().out
    assert 'measured: just now' in out and all(name in out for name in ('imdb-small-backwards', ': whole', 'jupyterlab', 'torch'))

def test_it_is_quick_once_it_has_measured():
    "All but what Python needs to import what is asked"
    doctor()
    began = time.process_time()
    doctor()
    assert time.process_time() - began < 1
