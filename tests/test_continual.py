"What a classifier forgets: rehearsal, the pull towards the start, and the experiment that measures both"
import json, sys
from functools import partial
from pathlib import Path
import pandas as pd, pytest, torch
from ulmfit_course.core import CourseError
from ulmfit_course.learners import text_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.outputs import rehearsed
from ulmfit_course.training import L2SP, silent
import ulmfit_course.classifier   # noqa: F401 (patches fit_gradually in)

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'experiments'))
torch.set_num_threads(1)

def rows(n, kind): return pd.DataFrame(dict(text=[f'{kind} number {i}' for i in range(n)], label=['neg', 'pos']*(n//2)))

# --- rehearsal

@pytest.mark.parametrize('share', [0, 0.1, 0.2, 0.5])
def test_the_share_is_that_of_the_result(share):
    new, old = rows(80, 'poem'), rows(200, 'film')
    mixed = rehearsed(new, old, share)
    is_old = mixed.text.str.startswith('film')
    assert is_old.mean() == pytest.approx(share, abs=0.01) and (~is_old).sum() == 80 and mixed.text.is_unique
    assert list(mixed.index) == list(range(len(mixed))) and len(new) == 80 and len(old) == 200
    if is_old.any(): assert abs((mixed[is_old].label == 'pos').sum() - is_old.sum()/2) <= 0.5   # as among the old rows

def test_rehearsal_is_drawn_by_its_seed():
    draw = partial(rehearsed, rows(40, 'poem'), rows(200, 'film'), 0.2)
    assert draw(seed=1).equals(draw(seed=1)) and set(draw(seed=1).text) != set(draw(seed=2).text)
    assert list(draw().text[:40]) != list(rows(40, 'poem').text), 'shuffled'

def test_no_more_is_rehearsed_than_there_is(): assert len(rehearsed(rows(80, 'poem'), rows(10, 'film'), 0.5)) == 90

@pytest.mark.parametrize('share', [1, 1.5, -0.1, float('nan')])
def test_a_share_that_is_none(share):
    with pytest.raises(CourseError, match='less than 1'): rehearsed(rows(4, 'poem'), rows(4, 'film'), share)

# --- the pull

@pytest.fixture(scope='module')
def dls():
    frame = pd.DataFrame(dict(text=['a fine film', 'a dull film']*16, label=['pos', 'neg']*16))
    from ulmfit_course.models import load_pretrained
    return classifier_dataloaders(frame, frame[:2], load_pretrained('imdb-small'), bs=8)

def carried(dls, *cbs, fit):
    "How far each weight went, and the learner"
    torch.manual_seed(0)
    learn = text_learner(dls, 'imdb-small', lin_ftrs=None, verbose=False, cbs=cbs)
    start = {k: p.detach().clone() for k,p in learn.model.named_parameters()}
    with silent(learn): fit(learn)
    return {k: (p - start[k]).abs().max().item() for k,p in learn.model.named_parameters()}, start, learn

def test_the_pull_holds_every_layer_through_gradual_unfreezing(dls):
    gradually = lambda learn: learn.fit_gradually((1, 1, 1, 1), 1e-2)
    free, *_ = carried(dls, fit=gradually)
    cb = L2SP(1e5)
    held, start, learn = carried(dls, cb, fit=gradually)
    moved = [k for k in free if free[k] > 0]
    assert len(moved) > len(free)/2 and all(held[k] < free[k] for k in moved)
    assert all(held[k] <= 1.05e-2 for k in held)   # one step of Adam, at the highest rate
    assert all(torch.equal(cb.start[p], start[k]) for k,p in learn.model.named_parameters())   # the start of the first fit

def test_what_is_frozen_stays(dls):
    held, *_ = carried(dls, L2SP(10.), fit=lambda learn: learn.fit(1, 1e-2))
    assert max(v for k,v in held.items() if k.startswith('0.')) == 0 < max(held.values())

def test_a_learner_with_a_pull_is_exported(dls, tmp_path):
    from fastai.learner import load_learner
    *_, learn = carried(dls, L2SP(10.), fit=lambda learn: learn.fit(1, 1e-2))
    learn.path = tmp_path
    learn.export('pulled.pkl')
    assert load_learner(tmp_path/'pulled.pkl').predict('a fine film')[0] == learn.predict('a fine film')[0]

# --- the experiment

@pytest.fixture
def tasks(monkeypatch):
    import tasks_continual as t
    monkeypatch.setattr(t, 'sizes', dict.fromkeys(t.kinds, 40))
    monkeypatch.setattr(t, 'recipe', t.recipe.but(epochs=(0, 0, 0, 1)))
    monkeypatch.setattr(t, 'words', 12)
    monkeypatch.setattr(t, 'alphas', (1.,))
    kept = t.rows   # which a test may replace
    kept.cache_clear(), t.forget_weights()
    yield t
    kept.cache_clear(), t.forget_weights()

def test_the_kinds_ask_one_question(tasks):
    for kind in tasks.kinds:
        parts = [tasks.rows(kind, part, 60) for part in ('train', 'validation', 'test')]
        assert all(set(f.label) == {'neg', 'pos'} and 0.3 < (f.label == 'pos').mean() < 0.7 for f in parts)
        assert not set.intersection(*(set(f.text) for f in parts[::2])) and all(len(t.split()) <= 12 for f in parts for t in f.text)

@pytest.mark.slow
def test_what_is_forgotten_is_measured_once(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, 'ways', {w: tasks.ways[w] for w in ('TF-IDF, all', 'frozen, all', 'L2-SP')})
    asked, rows_of = set(), tasks.rows
    monkeypatch.setattr(tasks, 'rows', lambda kind, part, n, draw=0: (asked.add(part), rows_of(kind, part, n, draw))[1])
    alpha, tried = tasks.chosen_alpha(10)
    assert asked == {'train', 'validation'} and set(tried) == {'1.0'} and alpha == 1.
    file = tmp_path/'continual.json'
    tasks.continual(file, 1, 10)
    found = json.loads(file.read_text('utf8'))
    assert len(found['metrics']['runs']) == 3*3*3 and found['config']['alpha'] == alpha and found['config']['validation'] == tried
    def never(*_): raise AssertionError('asked twice')
    monkeypatch.setattr(tasks, 'judged', never)
    tasks.continual(file, 1, 10)

def test_few_labels_are_drawn_by_class(tasks):
    frame = pd.DataFrame(dict(text=map(str, range(30)), label=['a']*20 + ['b']*10))
    assert tasks.drawn(frame, 5, 0).label.value_counts().to_dict() == dict(a=5, b=5)
    assert tasks.drawn(frame, 15, 0).label.value_counts().to_dict() == dict(a=15, b=10)

@pytest.mark.parametrize('name, rows_of_a_draw', [('continual', 7*3*3), ('few_shot', 2*2*6)])
def test_the_records_are_complete(name, rows_of_a_draw):
    runs = pd.DataFrame(json.loads((root/f'experiments/results/{name}.json').read_text('utf8'))['metrics']['runs'])
    assert runs.groupby('draw').size().to_dict() == dict.fromkeys(range(3), rows_of_a_draw)
    assert runs.groupby('kind' if name == 'continual' else 'task').n_test.nunique().eq(1).all() and runs.accuracy.between(0, 1).all()
