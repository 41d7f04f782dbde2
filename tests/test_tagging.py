"Tags, spans, words and tokens, the tagger and its folder, checked from outside"
import json, random, re
from pathlib import Path
import pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from ulmfit_course.awd_lstm import language_model, small_config
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.models import Checkpoint, words_en
from ulmfit_course.tagging import align_labels, capital_labels, with_capitals
from ulmfit_course.taggers import (WordReader, load_tagger, save_tagger, sentences_of, span_report, span_scores, spans_html, spans_of,
    tag_baseline, tokens_of_words, train_tagger, words_with_places)
from ulmfit_course.tokenizer_base import Tokenizer, spacy_tokenizer
from ulmfit_course.vocabulary import special_tokens

root = Path(__file__).resolve().parent.parent
labels = st.sampled_from(['PER', 'LOC', 'a-b'])
tag_lists = st.lists(st.one_of(st.just('O'), st.builds('{}-{}'.format, st.sampled_from('BI'), labels)), max_size=12)
texts = st.text(st.one_of(st.characters(), st.sampled_from(list('aAB .\n&;#<>!x\u200b\u00a0🎈'))), max_size=120)
quick = settings(max_examples=60, deadline=None)

def small_lm(direction, seed):
    "A language model of random weights and few words"
    set_seed(seed)
    arch, vocab = dict(small_config, emb_sz=8, n_hid=12, n_layers=2), [*special_tokens, *'zoe anna lee saw sat on paris new york .'.split()]
    return Checkpoint(language_model(len(vocab), arch).state_dict(), vocab,
                      dict(format=2, stage='pretraining', arch=arch, direction=direction, tokenizer=words_en))

def some_row(rng):
    words, tags = [], []
    for label, options in (('PER', ('Zoe', 'Anna Lee')), ('', ('saw', 'sat on')), ('LOC', ('Paris', 'New York')), ('', ('.',))):
        part = rng.choice(options).split()
        words += part
        tags += [f"{'I' if i else 'B'}-{label}" if label else 'O' for i in range(len(part))]
    return dict(tokens=words, tags=tags)

@pytest.fixture(scope='module')
def reader(): return WordReader([small_lm('fwd', 0), small_lm('bwd', 1)])

@pytest.fixture(scope='module')
def frame(): return pd.DataFrame([some_row(random.Random(i)) for i in range(60)])

@pytest.fixture(scope='module')
def tagger(reader, frame):
    return train_tagger(frame, reader=reader, max_unknown=1, hidden=8, squeeze=16, spelling=8, epochs=12, lr=2e-2, bs=8, dropout=0.1)

def refused(f, *args, **kw):
    with pytest.raises(CourseError) as e: f(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)

# --- tags and spans

@quick
@given(tag_lists)
def test_spans_and_tags_are_two_ways_to_say_the_same(tags):
    spans, again = spans_of(tags), ['O']*len(tags)
    for label, first, after in spans: again[first:after] = [f'B-{label}'] + [f'I-{label}']*(after-first-1)
    assert spans_of(again) == spans
    assert all(a < b for _,a,b in spans) and all(x[2] <= y[1] for x,y in zip(spans, spans[1:]))
    assert [t == 'O' for t in again] == [t == 'O' for t in tags]

@quick
@given(st.lists(st.tuples(tag_lists, tag_lists), max_size=6))
def test_f1_is_the_share_of_what_both_have(rows):
    cut = [(t[:n], s[:n]) for t,s in rows for n in [min(len(t), len(s))]]
    true, said = [t for t,_ in cut], [s for _,s in cut]
    sets = [{(i, *o) for i,row in enumerate(rows) for o in spans_of(row)} for rows in (true, said)]
    found, both = span_scores(true, said), len(sets[0] & sets[1])
    assert found['n'] == len(sets[0]) and found['said'] == len(sets[1])
    assert found['f1'] == pytest.approx(2*both/max(1, len(sets[0]) + len(sets[1])))
    assert span_scores(true, true)['f1'] == float(bool(sets[0]))
    report = span_report(true, said)
    assert report.n[:-1].sum() == found['n'] and report.said[:-1].sum() == found['said']

def test_tags_outside_the_scheme_get_one_line():
    for bad in ('PER', '', 'B', 'B-', 'b-PER', 'X-PER', 3, None, 'I'): assert 'none of O, B-name, I-name' in refused(spans_of, ['O', bad])
    assert 'choose one of' in refused(spans_of, [], 'bilou')
    assert 'row 1 has 1 true tags and 2' in refused(span_scores, [['O'], ['O']], [['O'], ['O', 'O']])

# --- words and tokens

@quick
@given(st.lists(texts, max_size=6))
def test_every_word_has_its_tokens(words):
    tokens, ids = tokens_of_words(words, Tokenizer.from_config(words_en))
    assert len(tokens) == len(ids) and ids[0] is None and list(dict.fromkeys(ids[1:])) == list(range(len(words)))
    tags = ['B-PER' if i % 2 else 'O' for i in range(len(words))]
    aligned = align_labels(tags, ids)
    assert [next(l for i,l in zip(ids, aligned) if i == w) for w in range(len(words))] == tags
    assert [len(spans_of([l for l in aligned if l]))] == [len(spans_of(tags))]   # no word begins twice

def test_labels_that_do_not_fit_get_one_line():
    ids = [None, 0, 0, 1]
    assert align_labels(['B-PER', 'O'], ids) == [None, 'B-PER', 'I-PER', 'O']
    assert align_labels(['up', 'O'], ids, 'plain') == [None, 'up', 'up', 'O']
    assert '1 labels for 2 words' in refused(align_labels, ['O'], ids)
    assert '3 labels for 2 words' in refused(align_labels, ['O']*3, ids)
    assert 'none of O' in refused(align_labels, ['PER', 'O'], ids)

cut = spacy_tokenizer('en')

@quick
@given(texts)
def test_words_are_what_stands_there(text):
    words = words_with_places(text, cut)
    assert all(text[s:e] == w for w,s,e in words) and ''.join(w for w,*_ in words) == ''.join(text.split())
    assert [o for part in sentences_of(words, text) for o in part] == words

# --- the tagger

@quick
@given(texts)
def test_a_span_is_what_stands_at_its_place(tagger, text):
    end = 0
    for s in tagger.tag(text):
        assert s['text'] == text[s['start']:s['end']] != '' and s['start'] >= end and 0 <= s['probability'] <= 1
        end = s['end']
    shown = spans_html(text, tagger.tag(text))
    assert not re.search('[\ud800-\udfff]', shown)

def test_it_finds_what_it_has_learned(tagger, frame):
    assert tagger.evaluate(frame)['f1'] > 0.95
    found = [(s['text'], s['label']) for s in tagger.tag('Zoe saw New York.\nAnna Lee sat on Paris.')]
    assert found == [('Zoe', 'PER'), ('New York', 'LOC'), ('Anna Lee', 'PER'), ('Paris', 'LOC')]
    assert tagger.tag_tokens(['Zoe', 'saw', 'Paris', '.']) == ['B-PER', 'O', 'B-LOC', 'O']

def test_company_changes_nothing(tagger, frame):
    rows = [*frame.tokens[:9], ['Zoe']*40, [], ['Paris']]
    together = tagger.tag_rows(rows)
    for row, tags, probs in zip(rows, *together):
        (alone,), (p,) = tagger.tag_rows([row])
        assert alone == tags and p == pytest.approx(probs, abs=1e-4) and len(tags) == len(row)

def test_it_comes_back_from_its_folder(tagger, tmp_path):
    back = load_tagger(save_tagger(tagger, tmp_path/'t'))
    assert back.tag('Anna Lee saw Paris') == tagger.tag('Anna Lee saw Paris')
    config = json.loads((tmp_path/'t/config.json').read_text())
    config['task']['tags'].reverse()
    (tmp_path/'t/config.json').write_text(json.dumps(config))
    assert 'the tags are not those' in refused(load_tagger, tmp_path/'t')

def test_bad_input_gets_one_line_before_any_work(tagger, reader, frame):
    train = lambda f, **kw: refused(train_tagger, f, reader=reader, **kw)
    assert "no column 'tags'" in train(frame[['tokens']])
    assert 'row 0 has 1 words and 2 tags' in train(pd.DataFrame(dict(tokens=[['a']], tags=[['O', 'O']])))
    assert 'word 0: ' in train(pd.DataFrame(dict(tokens=[['a']], tags=[['LOC']])))
    assert 'unknown setting' in train(frame, colour='red')
    assert 'must be a string' in refused(tagger.tag, 3)
    assert 'outside the text' in refused(spans_html, 'abc', [dict(label='A', start=2, end=7)])

def test_capitals_come_back():
    words = ['The', 'NASA', "O'Neill", 'x', '1', 'É', '']
    small, how = capital_labels(words)
    assert [w == w.lower() for w in small] == [True]*7
    assert with_capitals(small, how) == ['The', 'NASA', "O'neill", 'x', '1', 'É', '']

def test_the_plain_rival_answers_for_every_word(frame):
    said = tag_baseline(frame[:40], frame[40:])
    assert [len(o) for o in said] == [len(o) for o in frame.tokens[40:]]

# --- the record

def test_the_goal_is_in_the_record():
    "Wikigold's test part: F1 of 60 or more in every draw, and above the plain baseline"
    runs = pd.DataFrame(json.loads((root/'experiments/results/tagging.json').read_text('utf8'))['metrics']['runs'])
    test = runs[(runs.task == 'ner_wikigold') & (runs.part == 'test') & (runs.learned == 'train')].groupby('row').f1
    ours, plain = test.get_group('the tagger: and a small LSTM'), test.get_group('word features')
    assert len(ours) >= 3 and ours.min() > 0.6 and ours.min() - plain.max() > 3*ours.std()
