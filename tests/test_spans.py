"Questions, passages and answers: places, scores, the network and its folder, checked from outside"
import json, random
from pathlib import Path
import pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from ulmfit_course.awd_lstm import language_model, small_config
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.datasets import load_dataset
from ulmfit_course.models import Checkpoint, words_en
from ulmfit_course.report import model_report
from ulmfit_course.spans import (Asked, answer_f1, answer_scores, best_spans, check_questions, clues, load_answerer,
    normalize_answer, overlap_baseline, rarity_of, save_answerer, train_spans, ways_to_know)
from ulmfit_course.taggers import WordReader
from ulmfit_course.tokenizer_base import spacy_tokenizer
from ulmfit_course.vocabulary import special_tokens

root = Path(__file__).resolve().parent.parent
cut = spacy_tokenizer('en')
texts = st.text(st.one_of(st.characters(), st.sampled_from(list('aAB .\n&;#<>!x\u200b\u00a0🎈'))), min_size=1, max_size=80)
quick = settings(max_examples=40, deadline=None)

def small_lm(direction, seed):
    "A language model of random weights and few words"
    set_seed(seed)
    vocab = [*special_tokens, *'1 2 zoe anna lee saw in paris new york . who where what did see ?'.split()]
    arch = dict(small_config, emb_sz=8, n_hid=12, n_layers=2)
    return Checkpoint(language_model(len(vocab), arch).state_dict(), vocab,
                      dict(format=2, stage='pretraining', arch=arch, direction=direction, tokenizer=words_en))

def some_row(rng):
    who, town = rng.choice(('Zoe', 'Anna Lee')), rng.choice(('Paris', 'New York'))
    ask, answer = rng.choice([('Who did see?', who), ('Where did Zoe see?', town)])
    return dict(question=ask, context=f'{who} saw in {town} .', answers=[dict(text=answer, start=f'{who} saw in {town} .'.index(answer))])

@pytest.fixture(scope='module')
def reader(): return WordReader([small_lm('fwd', 0), small_lm('bwd', 1)])

@pytest.fixture(scope='module')
def frame(): return pd.DataFrame([some_row(random.Random(i)) for i in range(60)])

small = dict(hidden=10, squeeze=12, spelling=8, epochs=10, lr=1e-2, bs=8, dropout=0.1)

@pytest.fixture(scope='module')
def answerer(reader, frame): return train_spans(frame, reader=reader, max_unknown=1, **small)

def refused(f, *args, **kw):
    with pytest.raises(CourseError) as e: f(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)

# --- answers

def test_what_squads_scorer_says():
    assert normalize_answer('The  U.S., an (Answer)!') == 'us answer'
    assert [answer_f1('a b', 'b c'), answer_f1('x', 'y'), answer_f1('the', 'An')] == [2/3, 0, 1]   # `a` is an article
    assert answer_scores(['in 1066', 'Rome'], [['1066', 'in the year 1066'], ['rome']]) == dict(exact=0.5, f1=pytest.approx(0.9), n=2)
    assert answer_scores([], []) == dict(exact=0, f1=0, n=0)

@quick
@given(texts, texts)
def test_f1_is_the_same_both_ways(a, b):
    assert 0 <= answer_f1(a, b) <= 1 and answer_f1(a, b) == answer_f1(b, a) and answer_f1(a, a) == 1
    assert answer_f1(a, b) >= (normalize_answer(a) == normalize_answer(b))

# --- places

@quick
@given(texts, st.data())
def test_every_place_has_its_words(text, data):
    if not text.strip(): return
    asked = Asked('Who?', text, cut)
    start = data.draw(st.integers(0, len(text)-1)); end = data.draw(st.integers(start+1, len(text)))
    if not text[start:end].strip(): return
    first, last = asked.words_of(start, end)
    said, s, e = asked.text_of(first, last)
    assert said == text[s:e] and s <= start + len(text[start:end]) - len(text[start:end].lstrip()) and e >= start + len(text[start:end].rstrip())
    assert sum(asked.lengths) == len(asked.passage)

def test_all_answers_of_the_set_are_found():
    "All that ships: an answer is what its words cover, but for letters that belong to a word half of which was marked"
    exact = n = 0
    for part in ('train', 'validation', 'test'):
        frame = load_dataset('qa_squad_small', part)[:150]
        rows, places, answers = check_questions(frame, cut)
        for asked, some, told in zip(rows, places, answers):
            said = [asked.text_of(*o)[0] for o in some]
            assert all(t.strip() in s for s,t in zip(said, told))
            exact, n = exact + sum(normalize_answer(s) == normalize_answer(t) for s,t in zip(said, told)), n + len(said)
    assert exact/n > 0.97, exact/n

def test_articles_are_not_shared():
    titles = [set(load_dataset('qa_squad_small', p).title) for p in ('train', 'validation', 'test')]
    assert not titles[1] & (titles[0] | titles[2])

# --- the choice

@quick
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 999))
def test_the_best_span_is_the_best_of_all(n, longest, seed):
    g = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, n, generator=g), torch.randn(2, n, generator=g)
    for row, (i, j, p) in enumerate(zip(*best_spans(start, end, longest))):
        pairs = {(a, b): float(start[row, a]+end[row, b]) for a in range(n) for b in range(a, min(n, a+longest))}
        assert pairs[int(i), int(j)] == pytest.approx(max(pairs.values()), abs=1e-5) and 0 < p <= 1.00001

@quick
@given(texts, texts)
def test_clues_are_numbers_of_every_word(question, passage):
    if not question.strip() or not passage.strip(): return
    asked = Asked(question, passage, cut)
    for found, words in zip(clues(asked, rarity_of({'a': 0, 'x': 1})), (asked.question, asked.passage)):
        assert len(found) == len(words) and found.isfinite().all() and (found >= 0).all()

# --- the network

def test_it_finds_what_was_asked_for(answerer, frame):
    assert answerer.scores(frame)['exact'] > 0.9
    passage = 'Anna Lee saw in New York .'
    assert [answerer.answer(q, passage).text for q in ('Who did see?', 'Where did Zoe see?')] == ['Anna Lee', 'New York']

@pytest.mark.parametrize('aware', ways_to_know)
def test_each_way_to_know_the_question_trains(aware, reader, frame):
    made = train_spans(frame[:16], reader=reader, max_unknown=1, **small | dict(aware=aware, epochs=2))
    assert 0 <= made.scores(frame[:16])['f1'] <= 1 and hasattr(made.head, 'key') == (aware in ('attention', 'clues'))

def test_company_changes_nothing(answerer, frame):
    pairs = [(q, c) for q,c in zip(frame.question[:8], frame.context)] + [('Who?', 'Zoe '*60), ('Where ' * 20, 'x')]
    together = answerer.predict_frame(pairs)
    for pair, (_, row) in zip(pairs, together.iterrows()):
        alone = answerer.answer(*pair)
        assert alone[:3] == tuple(row)[:3] and alone.score == pytest.approx(row.score, abs=2e-3)

@quick
@given(texts, texts)
def test_an_answer_is_what_stands_at_its_place(answerer, question, passage):
    if not question.strip() or not passage.strip(): return
    a = answerer.answer(question, passage)
    assert a.text == passage[a.start:a.end] != '' and 0 <= a.score <= 1

def test_it_comes_back_from_its_folder(answerer, tmp_path):
    back = load_answerer(save_answerer(answerer, tmp_path/'a', data='made up'))
    assert back.answer('Who did see?', 'Zoe saw in Paris .')[:3] == answerer.answer('Who did see?', 'Zoe saw in Paris .')[:3]
    assert (back.recipe, back.card['data']) == (answerer.recipe, 'made up')
    config = json.loads((tmp_path/'a/config.json').read_text())
    (tmp_path/'a/config.json').write_text(json.dumps(config | dict(layers=[0])))
    assert 'the weights do not fit' in refused(load_answerer, tmp_path/'a')

def test_its_page_shows_what_was_asked_said_and_right(answerer, frame):
    rows = frame.iloc[:6].copy().reset_index(drop=True)
    rows.at[0, 'question'], rows.at[0, 'answers'] = '<Who> did see?', [dict(text='in', start=rows.context[0].index(' in ')+1)]
    page = model_report(answerer, rows, n=3)
    assert '<p>6 questions</p>' in page and '<td>who</td>' in page and '&lt;Who&gt; did see? It says' in page and '; right: in</b>' in page
    assert 'it says</b></mark>' in page and '<Who>' not in page

def test_bad_input_gets_one_line_before_any_work(answerer, reader, frame):
    train = lambda f, **kw: refused(train_spans, f, reader=reader, **kw)
    one = dict(question='Who?', context='Zoe saw.', answers='Zoe')
    row = lambda **kw: train(pd.DataFrame([one, one | kw]))
    assert 'row 1: the question is empty' in row(question='')
    assert 'row 1: the passage is empty' in row(context=' \n')
    assert 'row 1: the question is a float' in row(question=float('nan'))
    assert "row 1: the answer 'Tom' does not stand in the passage" in row(answers='Tom')
    assert 'row 1 has no answer' in row(answers=[])
    assert 'row 1: the span 0:999 lies outside' in row(answers=[dict(text='x'*999, start=0)])
    assert "at 1 stands 'oe ', not 'Zoe'" in row(answers=[dict(text='Zoe', start=1)])
    assert 'does not stand' in row(answers=[dict(text='Zoe', start=-3)])
    assert "no column 'answers'" in train(frame[['question', 'context']])
    assert 'choose one of stream' in train(frame, aware='all')
    assert 'is empty' in refused(answerer.answer, 'Who?', '')

def test_the_plain_rivals_answer_with_the_passage(frame):
    for chunk in (True, False):
        said = overlap_baseline(frame[:40], frame[40:], chunk)
        assert all(s in c for s,c in zip(said, frame.context[40:]))

# --- the record

def test_the_record_is_above_the_better_rival():
    runs = pd.DataFrame(json.loads((root/'experiments/results/tagging.json').read_text('utf8'))['metrics']['runs'])
    test = runs[(runs.task == 'spans') & (runs.part == 'test')].groupby('row').f1
    ours, plain = test.get_group('and clues'), test.get_group('overlap: a name or number of it')
    assert len(ours) >= 3 and ours.min() - plain.max() > 3*ours.std()
    assert plain.max() > test.get_group('overlap: the whole sentence').max()
