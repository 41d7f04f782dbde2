"Every exercise: its stub is not yet written, its solution is right, each misreading gets its own sentence and no other"
import pkgutil
from importlib import import_module
import pytest, torch
import ulmfit_course
from ulmfit_course.teaching import Exercise, Help, check, exercises, progress

torch.set_num_threads(1)
modules = [m.name for m in pkgutil.iter_modules(ulmfit_course.__path__) if m.name.startswith('exercises_')]
for m in modules: import_module(f'ulmfit_course.{m}')
every = pytest.mark.parametrize('e', list(exercises.values()), ids=lambda e: f'{e.lesson}.{e.name}')

@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path))

def named(f, name):
    "`f` under the name of an exercise"
    def yours(*args): return f(*args)
    yours.__name__ = name
    return yours

@every
def test_a_stub_is_not_yet_written(e):
    def stub(*args): raise NotImplementedError
    assert check(named(stub, e.name)).ok is None and not progress().done[e.name]

@every
def test_the_solution_is_right_as_it_is_shown(e):
    home = {}   # what a learner pastes stands alone
    exec(e.solution, home)
    assert check(home[e.name]).ok and progress().done[e.name]

@every
def test_each_misreading_is_named(e):
    assert len(e.misread) >= 2, 'plant two wrong answers at least'
    for f in e.misread:
        said = check(named(f, e.name))
        assert said.ok is False and said.says == ' '.join(f.__doc__.split()), f'{f.__name__}: {said}'
    assert len({f.__doc__ for f in e.misread}) == len(e.misread)

@every
def test_another_wrong_answer_is_told_by_what_it_gives(e):
    assert 'gives' in check(named(lambda *args: 'something else', e.name)).says
    def broken(*args): return args[0].nowhere
    assert f'{e.name} raises AttributeError' in check(named(broken, e.name)).says

@every
def test_it_has_hints_a_level_and_minutes(e):
    assert len(e.hints) == 2 and e.level in (1, 2, 3) and 1 <= e.minutes <= 30 and e.right.__doc__
    page = Help(e.name).static_html()
    assert page.count('<details>') == 3 and f'def {e.name}(' in page

def test_names_are_taken_once():
    found = [e.name for m in modules for e in vars(import_module(f'ulmfit_course.{m}')).values() if isinstance(e, Exercise)]
    assert len(found) == len(set(found)) == len(exercises)
