"The questions of experiments/evidence.py: every way of training runs, answers are kept, none is asked twice"
import json, subprocess, sys
from functools import partial
from pathlib import Path
import pytest
from ulmfit_course.classifier import train_classifier
from ulmfit_course.data import sample_rows
from ulmfit_course.recipes import ClassifierRecipe

experiments = Path(__file__).parent.parent/'experiments'
sys.path.insert(0, str(experiments))
import evidence

@pytest.fixture
def few(monkeypatch):
    "A handful of reviews, one epoch a step"
    cut = {k: sample_rows(v.assign(text=v.text.str[:300]), 12 if k == 'test' else 80) for k,v in evidence.splits().items()}
    monkeypatch.setattr(evidence, 'splits', lambda source="imdb": cut)
    monkeypatch.setattr(evidence, 'on_wikipedia', partial(evidence.on_wikipedia, n=1))
    evidence.stage2_of.cache_clear()
    monkeypatch.setattr(ClassifierRecipe, 'for_labels', classmethod(lambda cls, n, in_domain=True, second=False: cls(lin_ftrs=50, epochs=(1, 1, 1, 1), lr=2e-2, window=150)))

def run(*args, results):
    return subprocess.run([sys.executable, experiments/'evidence.py', *args, '--results', results], capture_output=True, text=True)

def test_answers_are_kept(tmp_path):
    ask = lambda n: run('few_labels', '--rows', 'TF-IDF', '--sizes', '100', '--seeds', str(n), '--json', results=tmp_path)
    first = ask(1)
    assert first.returncode == 0 and first.stderr.count('seed') == 1, first.stderr
    second = ask(2)
    assert second.stderr.count('seed') == 1 and 'seed 1' in second.stderr   # seed 0 was known
    line, = json.loads(second.stdout)
    runs = json.loads((tmp_path/'few_labels.json').read_text('utf8'))['metrics']['runs']
    assert line['seeds'] == 2 == len(runs) and line['spread'] > 0
    assert line['accuracy'] == pytest.approx(50*sum(r['accuracy'] for r in runs), abs=.01)
    assert all(.6 < r['accuracy'] < .85 and r['n_test'] > 2000 for r in runs)

def test_unknown_row(tmp_path):
    done = run('ablations', '--rows', 'magic', results=tmp_path)
    assert done.returncode and done.stderr.strip().splitlines()[-1].startswith("unknown row 'magic': choose from head alone")

@pytest.mark.parametrize('question, row', [('few_labels', 'from scratch'), ('few_labels', 'stage 2 on all reviews'), ('heads', 'linear, solved'),
    ('tokens', 'words'), ('tokens', 'pieces, 2,000'), ('sentences', 'from scratch'), ('topics', 'wiki-small, stage 2 on the task'),
    ('ablations', 'at once, one constant rate'), ('ablations', 'slanted triangle')])   # `test_ways_differ` runs three more
def test_every_way_runs(few, question, row):
    found = evidence.answer(evidence.questions[question]['rows'][row], 16, 0)
    assert found['n_test'] == 12 and 0 <= found['accuracy'] <= 1

def test_both_directions_are_averaged(few):
    both, forward = (evidence.answer(evidence.questions[q]['rows'][row], 16, 0) for q,row in (('directions', 'both directions'), ('few_labels', 'stage 2 on all reviews')))
    assert len(both['alone']) == 2 and both['alone'][0] == forward['accuracy']   # each starts from the seed

@pytest.mark.parametrize('row', ['none', 'discriminative rates, slanted triangle'])
def test_stage2_is_measured(few, row):
    "What the language model knows is asked after stage 2; without training it is as it was"
    from ulmfit_course.models import load_pretrained, model_of
    found, ck = evidence.answer(evidence.questions['stage2']['rows'][row], 16, 0), load_pretrained('wiki-small')
    assert (found['wikipedia'] == evidence.on_wikipedia(model_of(ck), ck)) == (row == 'none')
    assert min(found[k] for k in ('reviews', 'wikipedia')) > 20

def test_ways_differ(few):
    "Each way of training leaves other weights; what it must not touch stays"
    import torch
    from ulmfit_course.models import load_pretrained
    train, valid, _ = evidence.drawn(16, 0)
    start = load_pretrained('imdb-small').weights['0.encoder.weight']
    def fitted(row):
        way = evidence.questions['ablations']['rows'][row]
        return train_classifier(train, valid, 'imdb-small', seed=0, **way.keywords).model
    alone, chain, dry = (fitted(row) for row in ('head alone', 'chain-thaw', 'no dropout'))
    assert torch.equal(alone[0].module.encoder.weight, start.float())
    assert not torch.equal(chain[0].module.encoder.weight, start.float())
    assert dry[0].module.input_dp.p == 0 and {m.p for m in dry[1].modules() if isinstance(m, torch.nn.Dropout)} == {0}

def test_table():
    runs = [dict(row='a', n=1, seed=s, accuracy=v) for s,v in enumerate((.5, .6))] + [dict(row='b', n=1, seed=0, accuracy=.7)]
    assert evidence.table(runs) == [dict(row='a', n=1, seeds=2, accuracy=55., spread=7.07), dict(row='b', n=1, seeds=1, accuracy=70., spread=None)]
