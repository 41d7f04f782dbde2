"Every target: trained, saved, loaded, asked, judged, by call and by command; what is no label of its task is refused"
import json
from functools import cache
import numpy as np, pandas as pd, pytest
from torch import nn
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import text_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import load_pretrained
from ulmfit_course.outputs import *
from ulmfit_course.predictors import Ensemble, TextClassifier
from ulmfit_course.recipes import ClassifierRecipe
from ulmfit_course.targets import Classes, Labels, Numbers, tasks
from ulmfit_course.workflows import evaluate_on, train_on

good, bad = ['A wonderful film with a fine story.', 'I loved every minute of it.', 'Great acting and lovely music.'], ['A dull film without a story.', 'I hated every minute of it.', 'Poor acting and awful music.']
texts = [f'{t} Take {i}.' for i in range(4) for t in (*good, *bad)]
sign = [1, 1, 1, 0, 0, 0]*4

def table(task):
    "A small table for a task, and how it is read"
    frame = pd.DataFrame(dict(text=texts, mood=['good' if s else 'bad' for s in sign], stars=[4.5 if s else 1.5 for s in sign]))
    said = frame.assign(said=[f"{m};film" if 'film' in t else m for m,t in zip(frame.mood, frame.text)])
    pairs = frame.assign(text1='Was it good?', text2=frame.text)
    return {'class': (frame, {}, 'mood'), 'binary': (frame, {}, 'mood'), 'multilabel': (said, {}, 'said'), 'number': (frame, {}, 'stars'),
            'pair': (pairs, dict(text_cols=['text1', 'text2']), 'mood'), 'similarity': (pairs, dict(text_cols=['text1', 'text2']), 'stars')}[task]

@pytest.fixture(scope='module', autouse=True)
def one_tokenizer():
    "spaCy's tokenizer is made once, not for each of fifty models"
    from ulmfit_course import tokenization
    with pytest.MonkeyPatch.context() as m:
        m.setattr(tokenization, 'spacy_tokenizer', cache(tokenization.spacy_tokenizer))
        yield

@cache
def trained(task):
    "A learner of each direction with a solved head, made once for all tests here, and the table; nothing may change them"
    frame, cols, label = table(task)
    return train_classifier(frame, None, 'imdb-small', ClassifierRecipe.solved(), 'both', task=task, label_col=label, max_unknown=1., **cols), frame

@pytest.mark.parametrize('task', tasks)
def test_a_bundle_says_what_the_learner_says(task, tmp_path):
    learners, frame = trained(task)
    items = list(zip(frame.text1, frame.text2))[:6] if tasks[task][1] else list(frame.text[:6])
    both = load_bundle(save_bundle(learners, tmp_path/'both'), precision='float32')   # of one learner: the test after this
    assert isinstance(both, Ensemble) and both.target.kind == tasks[task][0].kind
    for learn, clas in zip(learners, both.members, strict=True):
        expected = learn.get_preds(dl=learn.dls.test_dl(items))[0].numpy()
        assert np.allclose(clas.probabilities(items), expected, atol=1e-5)
        assert np.allclose([clas.probabilities([o])[0] for o in items], expected, atol=1e-5), 'alone as in company'
        assert np.allclose(clas.run(clas.to_ids.ids(clas.texts_of(items))), expected, atol=1e-5)
        assert clas.target == learn.target
    said = both.predict(items[0])[0]
    assert {'class': 'good', 'binary': 'good', 'pair': 'good'}.get(task, said) == said
    if task == 'multilabel': assert said == ['film', 'good']
    if task in ('number', 'similarity'): assert abs(said - 4.5) < 1.2

@pytest.mark.parametrize('task', tasks)
def test_from_a_table_to_a_bundle_to_its_scores(task, tmp_path):
    frame, cols, label = table(task)
    frame.to_csv(tmp_path/'t.csv', index=False)
    done = train_on(tmp_path/'t.csv', tmp_path/'b', 'imdb-small', cols.get('text_cols', 'text'), label, valid=0.25, task=task, max_unknown=1., direction='fwd')
    key = {'multilabel': 'micro_f1', 'number': 'mae', 'similarity': 'mae'}.get(task, 'accuracy')
    assert key in done['valid'] and key in done['tfidf']
    model = load_bundle(tmp_path/'b')
    found = evaluate_on(model, tmp_path/'t.csv', max_unknown=1.)
    assert found['n'] == len(frame) and (found[key] > 0.8 if key != 'mae' else found[key] < 1)
    said = model.predict_file(tmp_path/'t.csv')
    assert len(said) == len(frame) and {'multilabel': 'labels', 'number': 'stars', 'similarity': 'stars'}.get(task, 'label') in said

def test_the_command(tmp_path, capsys):
    from ulmfit_course.cli import main
    frame, *_ = table('number')
    frame.to_csv(tmp_path/'t.csv', index=False)
    f, b = str(tmp_path/'t.csv'), str(tmp_path/'b')
    assert main(['train', '--model', 'imdb-small', '--task', 'number', '--data', f, '--label-col', 'stars', '--out', b, '--valid', '0', '--y-range', '0.5', '5.5', '--forwards', '--force', '--json']) == 0
    capsys.readouterr()
    assert main(['evaluate', b, '--data', f, '--force', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['r'] > 0.9
    assert main(['predict', b, 'I loved it.', '--force', '--json']) == 0
    assert 0.5 < json.loads(capsys.readouterr().out)[0]['stars'] < 5.5
    assert main(['train', '--model', 'imdb-small', '--task', 'number', '--data', f, '--label-col', 'mood', '--out', b]) == 1
    assert "row 1, column 'mood': 'good' is no number" in capsys.readouterr().err

@pytest.mark.parametrize('task,label,said', [
    ('number', [1., 'many']*12, "row 2, column 'label': 'many' is no number"), ('number', [3.]*24, "all training texts have the same 'label'"),
    ('multilabel', [['a'], []]*12, 'row 2: the list of labels is empty'), ('multilabel', [['a']]*24, 'a classifier needs two classes or more'),
    ('binary', ['a', 'b', 'c']*8, 'yes or no is a question of two labels'), ('pair', ['a', 'b']*12, 'a pair has two texts, and this row has 1'), ('colour', ['a']*24, "unknown task 'colour'"),
    ('class', [0.1*i for i in range(24)], 'that is a score')])
def test_labels_of_another_task(task, label, said):
    with pytest.raises(CourseError, match=None) as e: train_classifier(pd.DataFrame(dict(text=texts, label=label)), None, 'imdb-small', task=task, max_unknown=1.)
    assert said in str(e.value) and '\n' not in str(e.value)

def test_what_a_pair_is():
    (learn, _), frame = trained('pair')
    clas = TextClassifier(learn.checkpoint(), precision='float32')
    ask = lambda a, b: clas.probabilities([(a, b)])[0]
    assert not np.allclose(ask('one', 'two'), ask('two', 'one'), atol=1e-5)
    assert np.isfinite(ask('', 'two')).all() and np.isfinite(ask('one', '')).all()
    assert np.isfinite(ask('xxfld 2 one', 'two xxfld 2')).all(), 'typed marks are no fields'
    for item in ('one text', ('one',), ('a', 'b', 'c')):
        with pytest.raises(CourseError): clas.probabilities([item])
    with pytest.raises(CourseError, match='two text columns'): train_classifier(frame, None, 'imdb-small', task='pair', label_col='mood', text_cols=['text', 'text1', 'text2'])

def test_a_head_of_ones_own(tmp_path):
    frame = pd.DataFrame(dict(text=texts, label=['good' if s else 'bad' for s in sign]))
    dls = classifier_dataloaders(frame, frame[:4], load_pretrained('imdb-small'), bs=8)
    make = lambda: nn.Sequential(nn.BatchNorm1d(768), nn.Linear(768, 2), nn.LogSoftmax(1))
    learn = text_learner(dls, head=make(), loss_func=nn.NLLLoss(), verbose=False)
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-2)
    label, _, probs = learn.predict(texts[0])
    assert float(probs.sum()) == pytest.approx(1, abs=1e-5) and label in ('good', 'bad')
    path = save_bundle(learn, tmp_path/'b')
    with pytest.raises(CourseError, match='a head of its trainer'): load_bundle(path)
    with pytest.raises(CourseError, match='do not fit'): load_bundle(path, head=nn.Linear(768, 2))
    assert np.allclose(load_bundle(path, head=make(), precision='float32').predict(texts[0])[2], probs, atol=1e-5)
    with pytest.raises(CourseError, match='only a linear head'): learn.solve_head()
    with pytest.raises(CourseError, match='end it with nn.Linear'): text_learner(dls, head=nn.Linear(768, 3), verbose=False)
    with pytest.raises(CourseError, match='does not take pooled states'): text_learner(dls, head=nn.Linear(5, 2), verbose=False)

def test_what_fastais_blocks_ask(tmp_path):
    from fastai.data.all import CategoryBlock, ColReader, ColSplitter, DataBlock, MultiCategoryBlock, RegressionBlock
    from fastai.text.all import TextBlock
    frame = pd.DataFrame(dict(text=texts, stars=[4.5 if s else 1.5 for s in sign], said=['good;film' if s else 'bad;film' for s in sign], is_valid=[i % 4 == 0 for i in range(24)]))
    words = load_pretrained('imdb-small').vocab
    def loaders(block, column, **kw):
        blocks = TextBlock.from_df('text', vocab=words, n_workers=0), block
        return DataBlock(blocks, get_x=ColReader('text'), get_y=ColReader(column, **kw), splitter=ColSplitter()).dataloaders(frame, bs=8, num_workers=0)
    for block, column, kw, kind in ((RegressionBlock(), 'stars', {}, Numbers), (MultiCategoryBlock(), 'said', dict(label_delim=';'), Labels), (CategoryBlock(), 'said', {}, Classes)):
        dls = loaders(block, column, **kw)
        learn = text_learner(dls, 'imdb-small', lin_ftrs=None, verbose=False)
        assert type(learn.target) is kind and len(learn.words) == len(words) and learn.unknown < 0.2
        learn.solve_head()
        assert learn.predict(texts[0]) and np.isfinite(learn.validate()[0])
        assert TextClassifier(learn.checkpoint()).predict(texts[0])
    with pytest.raises(CourseError, match="build the loaders with target='number'"): text_learner(dls, 'imdb-small', target='number', verbose=False)

def test_thresholds_are_chosen_on_texts_that_the_head_did_not_see():
    (learn, _), frame = trained('multilabel')
    assert learn.target.thresholds.shape == (3,) and (learn.target.thresholds != 0.5).any()
    assert learn.checkpoint().task['thresholds'] == learn.target.settings['thresholds']

def test_a_report_agrees_with_scikit_learn():
    from sklearn.metrics import classification_report
    rng = np.random.default_rng(0)
    y = rng.choice(['a', 'b', 'c'], 60, p=[.6, .3, .1])
    probs = rng.dirichlet([1, 1, 1], 60)
    target = Classes(['a', 'b', 'c'])
    expected = classification_report(y, target.said(probs), output_dict=True, zero_division=0)
    report = label_report(target, list(y), probs)
    for ours, theirs in (('a', 'a'), ('macro', 'macro avg'), ('weighted', 'weighted avg')): assert report.f1[ours] == pytest.approx(expected[theirs]['f1-score'])
    assert report.f1['micro'] == pytest.approx(expected['accuracy'])

def test_tags_and_sequences_by_command(tmp_path, capsys):
    from ulmfit_course.cli import main
    from ulmfit_course.taggers import Tagger
    from ulmfit_course.workflows import opened
    rows = [dict(tokens=['Anna', 'Lee', 'saw', city, '.'], tags=['B-PER', 'I-PER', 'O', 'B-LOC', 'O']) for city in ('Paris', 'Rome', 'Vienna', 'Oslo')*8]
    data, out = tmp_path/'w.jsonl', str(tmp_path/'tagger')
    data.write_text('\n'.join(map(json.dumps, rows)))
    ask = lambda *args: (main([*map(str, args), '--json']), capsys.readouterr())[1]
    done = json.loads(ask('train', '--task', 'tags', '--model', 'wiki-small', '--data', data, '--out', out, '--valid', '0').out)
    assert done['n_texts'] == len(rows) and isinstance(opened(out), Tagger)
    span = json.loads(ask('predict', out, 'Anna Lee saw Paris.').out)[0]['spans'][0]
    assert (span['text'], span['start'], span['end']) == ('Anna Lee', 0, 8)
    assert json.loads(ask('evaluate', out, '--data', data).out)['f1'] > 0.9
    assert 'answers alone' in ask('predict', out, 'a', '--members', out).err
    table, written = tmp_path/'p.csv', str(tmp_path/'written')
    pd.DataFrame(dict(text=[f'say {w}' for w in ('one', 'two', 'three')*8], target=['one', 'two', 'three']*8)).to_csv(table, index=False)
    json.loads(ask('train', '--task', 'sequence', '--model', 'wiki-small', '--data', table, '--out', written, '--valid', '0').out)
    assert {'text', 'written'} == set(json.loads(ask('predict', written, 'say one').out)[0])
    assert 'rouge_l' in json.loads(ask('evaluate', written, '--data', table).out)
    assert "has no column 'tokens'" in ask('train', '--task', 'tags', '--model', 'wiki-small', '--data', table, '--out', tmp_path/'t').err
    data.write_text(json.dumps(dict(tokens=['a', 'b'], tags=['O'])))
    assert 'has 2 words and 1 tags' in ask('train', '--task', 'tags', '--model', 'wiki-small', '--data', data, '--out', tmp_path/'t').err
