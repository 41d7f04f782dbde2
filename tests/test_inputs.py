"Cleaning and augmentation: named steps, what they must not do to any text, rows that do not leak, and the record of lesson 10"
import json, pickle, random, subprocess, sys
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from ulmfit_course.augmentation import *
from ulmfit_course.cleaning import *
from ulmfit_course.core import CourseError
from ulmfit_course.inputs import compared
from ulmfit_course.tokenization import WordTokenizer

torch.set_num_threads(1)
root = Path(__file__).parent.parent
cheap = 'synonyms', 'insert', 'delete', 'swap', 'neighbours'
strange = ['', ' ', '\n', 'a', '!', '7/10', '<', '<b', '<!--', '<!-- a --> b', '&', '&#;', '&#x110000;', '&amp;lt;', 'İstanbul ẞ', 'e\u0301', '한글', 'हिन्दी',
           "don't", "o’clock '", 'x'*5000, '<a'*3000, '<!--'*3000, '&#' + '9'*5000, '\ud800', '\x00\u202e', '😀👨‍👩‍👧', 'ﬁ½', "I'M NOT SURE", 'xxbos xxmaj']

def frame(n=6): return pd.DataFrame(dict(text=[f'A great film number {i}, with a plot and an end that I liked.' for i in range(n)], label=[i % 2 for i in range(n)]))
def rngs(n, seed=0): return [random.Random(f'{seed} {i}') for i in range(n)]
def told(call, *words):
    "The call fails with one line that holds these words"
    with pytest.raises(CourseError) as e: call()
    assert '\n' not in str(e.value) and all(w in str(e.value) for w in words), str(e.value)

# --- what a model keeps

@pytest.fixture(scope='module')
def shouting():
    "A learner of cleaned texts, and the raw ones"
    texts = ['A WONDERFUL film!<br />', 'A <i>dull</i> film.']*12
    from ulmfit_course.classifier import train_classifier
    return train_classifier(pd.DataFrame(dict(text=texts, label=['good', 'bad']*12)), None, 'imdb-small', clean='case,html', max_unknown=1.), texts[:2]

def test_a_model_cleans_what_it_is_asked(shouting, tmp_path):
    from ulmfit_course.inference import load_bundle, save_bundle
    learn, texts = shouting
    clas = load_bundle(save_bundle(learn, tmp_path/'b'), precision='float32')
    clean = Cleaner.from_config(json.loads((tmp_path/'b'/'config.json').read_text())['task']['clean'])
    assert clean.steps == ['html', 'case'] and clas.to_ids.clean(texts[0]) == 'a wonderful film!\n'
    said = clas.probabilities(texts)
    assert np.array_equal(said, clas.probabilities([*map(clean, texts)])), 'raw or cleaned, one answer'
    assert np.allclose(said, learn.get_preds(dl=learn.dls.test_dl(texts))[0], atol=1e-5) and clas.predict(texts[0])[0] == 'good'
    clas.to_ids.clean = None
    assert not np.allclose(said, clas.probabilities(texts), atol=1e-5), 'without it, another answer'

def test_columns_are_cleaned_one_by_one():
    from ulmfit_course.loaders import TextToIds
    from ulmfit_course.readers import join_fields
    to_ids = TextToIds(['xxunk', 'xxpad', 'xxbos', 'xxfld', '1', '2', 'number', 'in', 'now'], clean=Cleaner('case', 'numbers', 'spaces'))
    words = lambda row: [to_ids.vocab[i] for i in to_ids.ids([join_fields(row)])[0]]
    assert words(['In  1999 ', 'NOW']) == ['xxbos', 'xxfld', '1', 'in', 'number', 'xxfld', '2', 'now']

def test_training_with_more_texts(monkeypatch):
    import ulmfit_course.classifier as c
    seen, loaders = [], c.classifier_dataloaders
    monkeypatch.setattr(c, 'classifier_dataloaders', lambda train, *a, **kw: seen.append(train) or loaders(train, *a, **kw))
    learn = c.train_classifier(frame(12), None, 'imdb-small', augment='swap,delete', copies=2, max_unknown=1.)
    assert len(seen[0]) == 36 and list(seen[0].text[:12]) == list(frame(12).text) and len(learn.dls.train_ds) == 36
    told(lambda: c.train_classifier(frame(12), None, augment='shout'), "there is no way 'shout' to augment")
    told(lambda: c.train_classifier(frame(12), None, clean='shout', max_unknown=1.), "there is no step 'shout'")
    pairs = frame(12).assign(text1='a', text2='b')
    told(lambda: c.train_classifier(pairs, None, task='pair', augment='swap'), 'of several columns', 'text_cols=')

# --- cleaning

@pytest.mark.parametrize('step', list(clean_steps))
@pytest.mark.parametrize('text', strange, ids=range(len(strange)))
def test_a_step_takes_any_text(step, text): assert isinstance(Cleaner(step)(text), str)

@pytest.mark.parametrize('step', [s for s in clean_steps if s not in ('html', 'stems', 'lemmas')])   # `&amp;lt;` is html twice over, and a stem may have a stem
@pytest.mark.parametrize('text', [*strange, "Well, <i>it's</i> 9/10 &amp; the Acters weren't great\u200b.  Café!"], ids=str)
def test_twice_is_once(step, text):
    once = Cleaner(step)(text)
    assert Cleaner(step)(once) == once

def test_the_order_is_its_own():
    assert Cleaner('spaces', 'html').steps == ['html', 'spaces'] and Cleaner('case', 'case').steps == ['case']
    assert Cleaner()('as  it is') == 'as  it is' and repr(Cleaner()) == 'Cleaner()'

def test_a_cleaner_is_made_again():
    c = Cleaner('stop_words', 'lemmas', stop_words={'film', 'a'})
    for again in (Cleaner.from_config(json.loads(json.dumps(c.config()))), pickle.loads(pickle.dumps(c))):
        assert again('A film was good') == c('A film was good') == 'be good' and repr(again) == repr(c)

def test_errors_of_cleaning():
    told(lambda: Cleaner('Html'), "there is no step 'Html'", 'choose from html, control')
    told(lambda: Cleaner(['html', 'case']), 'there is no step')
    told(lambda: cleaned('a'), 'not a list')
    told(lambda: cleaned([None], 'case'), 'must be a string')
    told(lambda: Cleaner('stems', language='ja'), "does not know the language 'ja'")
    told(lambda: cleaned(['a'], ['case', 'lemmas'], language='xx'), "the step 'lemmas' does not know the language 'xx'")

def test_missing_packages_are_named(monkeypatch):
    for module, package, step in (('nltk.stem', 'nltk', 'stems'), ('simplemma', 'simplemma', 'lemmas'), ('spellchecker', 'pyspellchecker', 'spelling')):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, module, None)
            told(lambda step=step: Cleaner(step), f'the step {step!r} needs {package}: pip install {package}')
            assert Cleaner(*(s for s in clean_steps if s != step))('Fine.')

def test_nothing_is_imported_that_is_not_asked_for():
    code = "import sys; import ulmfit_course.cleaning as c; c.Cleaner('html', 'case', 'spaces'); print([m for m in ('nltk', 'simplemma', 'spellchecker', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'

def test_a_cleaner_is_a_rule_of_a_tokenizer():
    tame = Cleaner('accents', 'numbers')
    def without_accents(t): return tame(t)
    assert WordTokenizer(rules=[without_accents]).tokenize('Amélie: 9') == ['Amelie', ':', 'number']

# --- augmentation

@pytest.mark.parametrize('name', cheap)
@pytest.mark.parametrize('share', [.05, .5, .95])
def test_a_way_takes_any_text(name, share):
    way = ways[name](share)
    texts = [t for t in strange if '\ud800' not in t]
    once, again = (way(texts, rngs(len(texts))) for _ in range(2))
    assert once == again and len(once) == len(texts) and all(isinstance(t, str) for t in once)

@pytest.mark.parametrize('name', cheap)
def test_a_text_does_not_depend_on_its_company(name):
    some = frame()
    whole, part = augmented(some, name, n=2), augmented(some[2:4], name, n=2)
    new = lambda f: set(f.text[f.made_by != ''])
    assert new(part) <= new(whole)

def test_proposals_do_not_depend_on_their_company():
    way = ReplaceByProposal()
    texts = [*frame().text, 'Short one.', '']
    whole = way(texts, rngs(len(texts)))
    assert whole == [way([t], [r])[0] for t, r in zip(texts, rngs(len(texts)))]
    assert whole[0] != texts[0] and whole[-1] == ''

def test_proposals_are_those_of_both_sides():
    "The row of a place is what each model says after reading its side"
    way = ReplaceByProposal()
    f, b = way.log_probs([[2, 40, 50, 60]], [[1, 3]])[0]
    assert f.shape == b.shape == (2, len(way.vocab)) and np.allclose(f.exp().sum(1), 1, atol=1e-4)
    def last(model, ids):
        model.reset()
        with torch.no_grad(): return model(torch.tensor([ids]))[0][0, -1].log_softmax(-1)
    assert torch.allclose(f[0], last(way.models[0], [2]), atol=1e-4) and torch.allclose(f[1], last(way.models[0], [2, 40, 50]), atol=1e-4)
    assert torch.allclose(b[0], last(way.models[1], [2, 60, 50]), atol=1e-4) and torch.allclose(b[1], last(way.models[1], [2]), atol=1e-4)

def test_labels_follow():
    some = frame(8).assign(source=range(8), split=['train']*5 + ['valid', 'test', 'test'])
    more = augmented(some, eda, n=3)
    assert more[:8].drop(columns='made_by').equals(some)
    new = more[more.made_by != '']
    assert set(new.split) == {'train'} and (new.label == new.source % 2).all() and set(new.source) <= set(range(5))
    assert list(more.columns) == [*some.columns, 'made_by'] and len(new) + more.attrs['left_out'] == 15
    assert set(new.made_by) == set(eda)   # the copies of a text take one after the other

def test_nothing_leaks():
    some = frame().assign(split=['train']*3 + ['test']*3)
    held = pd.DataFrame(dict(text=['a  FOREIGN text']))
    copy = lambda texts, rngs: [rng.choice([*some.text[3:], 'A foreign text', 'new']) for rng in rngs]
    for seed in range(20): assert set(augmented(some, copy, seed=seed, held_out=held).text[6:]) <= {'new'}
    assert augmented(some, 'swap').text.str.casefold().is_unique

def test_empty_texts_are_not_made():
    more = augmented(frame(), lambda texts, rngs: [' ' for _ in texts])
    assert len(more) == 6 and more.attrs['left_out'] == 6

def test_made_rows_are_not_augmented_again():
    once = augmented(frame(), 'swap')
    assert augmented(once, 'delete').made_by.value_counts().to_dict() == {'': 6, 'swap': 6, 'delete': 6}

def test_errors_of_augmentation():
    told(lambda: augmented(frame(), 'eda'), "there is no way 'eda'", 'synonyms')
    told(lambda: augmented(frame(), 'swap', n=0), 'ask for one new row')
    told(lambda: augmented(frame(), 'swap', share=1.5), 'between 0 and 1')
    told(lambda: augmented(frame(), 'swap', held_out=frame().rename(columns=dict(text='review'))), "held_out has no column 'text'")
    told(lambda: augmented(frame().assign(split='test'), 'swap'), 'no row to augment')
    told(lambda: augmented(frame(), lambda texts, rngs: texts[1:]), 'gave 5 texts for 6')
    told(lambda: augmented(frame(), lambda texts, rngs: [3]*6), 'must be a string')
    told(lambda: ReplaceByProposal(model='wiki-small', backward='imdb-small-backwards'), 'different words')
    told(lambda: SwapWords('imdb-small'), 'between 0 and 1')
    told(lambda: ReplaceByNeighbour(model='nothing'), 'no pretrained model')
    told(lambda: Synonyms('all'), "choose 'first' or 'counted'")

def test_back_translation_keeps_texts_apart():
    asked = []
    def upper(texts):
        asked.append(texts)
        return [t.upper() for t in texts]
    assert back_translated(['One. Two!', '', 'Three'], upper, lambda ts: [t.lower() for t in ts]) == ['one. two!', '', 'three']
    assert asked == [['One.', 'Two!', 'Three']]
    more = augmented(frame(2), BackTranslate(upper, lambda ts: [t.replace('GREAT', 'fine') for t in ts]))
    assert more.made_by[2:].tolist() == ['BackTranslate']*2 and 'fine' in more.text[2]
    told(lambda: back_translated(['a'], upper, lambda ts: []), 'gave 0 answers to 1 sentences')

def test_a_marian_model_needs_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    told(lambda: MarianTranslator('Helsinki-NLP/opus-mt-en-fr'), 'pip install transformers')

# --- how sure

def runs(*draws, n_test=1000): return [dict(row='a', gained=g, lost=l, n_test=n_test, draw=i) for i, (g, l) in enumerate(draws)]

@pytest.mark.parametrize('draws, verdict', [([(60, 10), (65, 12), (58, 9)], 'helped'), ([(10, 60), (12, 65), (9, 58)], 'hurt'), ([(20, 18), (15, 19), (18, 18)], 'no difference seen'),
    ([(0, 0)]*3, 'no difference seen'), ([(60, 10)], 'one draw'), ([(90, 10), (10, 60), (70, 10)], 'no difference seen')])
def test_verdicts(draws, verdict): assert compared(runs(*draws), by=['row']).verdict.tolist() == [verdict]

def test_an_error_is_that_of_a_bootstrap():
    rng = np.random.default_rng(0)
    change = rng.choice([1, -1, 0], 1000, p=[.06, .04, .9])
    means = [rng.choice(change, 1000).mean() for _ in range(4000)]
    found = compared(runs(((change > 0).sum(), (change < 0).sum())), by=['row'])
    assert found.error[0] == pytest.approx(200*np.std(means), rel=.05) and found.difference[0] == pytest.approx(100*change.mean())

def test_the_record_is_whole():
    kept = pd.DataFrame(json.loads((root/'experiments/results/inputs.json').read_text('utf8'))['metrics']['runs'])
    keys = ['part', 'learner', 'n', 'row', 'draw']
    assert not kept.duplicated(keys).any()
    plain = kept[kept.row == 'as it is'].set_index(['part', 'learner', 'n', 'draw'])
    for r in kept.itertuples():
        without = plain.loc[r.part, r.learner, r.n, r.draw]
        assert r.n_test == without.n_test and r.accuracy - without.accuracy == pytest.approx((r.gained-r.lost)/r.n_test, abs=2e-4)

def test_answers_are_kept(tmp_path):
    def ask(*args):
        command = [sys.executable, root/'experiments/tasks_inputs.py', *args, '--learners', 'TF-IDF', '--tests', '50', '--results', tmp_path]
        return subprocess.run(command, capture_output=True, text=True)
    first = ask('cleaning', '--rows', 'stop_words', '--draws', '1')
    assert first.returncode == 0 and first.stderr.count('draw') == 1, first.stderr
    second = ask('cleaning', '--rows', 'stop_words', '--draws', '2')
    assert second.stderr.count('draw') == 1 and 'draw 1' in second.stderr   # draw 0 was known
    kept = json.loads((tmp_path/'inputs.json').read_text('utf8'))['metrics']['runs']
    assert len(kept) == 2 and all(r['n_train'] == 1000 and r['n_test'] == 50 and r['changed'] == 1 for r in kept)
    wrong = ask('cleaning', '--rows', 'magic')
    assert wrong.returncode and wrong.stderr.strip().splitlines()[-1].startswith("unknown row 'magic': choose from as it is")
