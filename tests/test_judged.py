"Every target before every judge: words that count, the worst texts, what was taken for what, calibration, panels, the report"
import copy, re
from html.parser import HTMLParser
import numpy as np, pandas as pd, pytest, torch
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.evaluation import calibration, case_told, confusion_matrix, expected_calibration_error, top_losses
from ulmfit_course.figures import highlight, numbers_figure, reading_figure, reliability_figure
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.interpretation import gradient_input, integrated_gradients, leave_one_out, prefix_probs
from ulmfit_course.models import Checkpoint, words_en
from ulmfit_course.report import by_label, errors_html, model_report, trust_html, word_parts, worst_predictions
from ulmfit_course.seq2seq import Seq2Seq
from ulmfit_course.taggers import WordReader, train_tagger
from ulmfit_course.targets import Classes, Labels, Numbers, YesNo, tasks
from ulmfit_course.vocabulary import special_tokens
from ulmfit_course.widgets import ErrorBrowser, PredictionExplorer

torch.set_num_threads(1)
rng = np.random.default_rng(0)
words = 'a good bad film song story with no <script> & fine dull loud ending take'.split()
texts = [' '.join(rng.choice(words, rng.integers(4, 9))) for _ in range(24)]
good = ['good' in t or 'fine' in t for t in texts]
pair_cols, one_of = ['question', 'answer'], dict(multilabel='said', number='stars', similarity='stars')
label_of = lambda task: one_of.get(task, 'mood')
several = 'several numbers'   # not a task of its own: a number with two columns
every = [*tasks, several]

def table():
    mood = ['good' if g else 'bad' for g in good]
    said = [';'.join([m]*(i % 5 > 0) + ['short']*(len(t) < 30) + ['<b>'] * ('film' in t)) or '<b>' for i,(m, t) in enumerate(zip(mood, texts))]
    stars = [4.5 - .1*(i % 5) if g else 1.5 + .1*(i % 4) for i,g in enumerate(good)]
    return pd.DataFrame(dict(text=texts, question='is it good', answer=texts, mood=mood, said=said, stars=stars, length=[float(len(t)) for t in texts]))

def small_lm(direction, seed):
    "A language model of random weights and few words"
    set_seed(seed)
    arch, vocab = dict(emb_sz=16, n_hid=20, n_layers=2), [*special_tokens, *words, 'is', 'it', '1', '2']
    return Checkpoint(language_model(len(vocab), arch).state_dict(), vocab, dict(format=2, stage='pretraining', arch=arch, direction=direction, tokenizer=words_en))

@pytest.fixture(scope='session')
def models(tmp_path_factory):
    "For each task a bundle of each direction, and both as one"
    folder, made = tmp_path_factory.mktemp('judged'), {}
    for task in every:
        cols = dict(text_cols=pair_cols) if task in tasks and tasks[task][1] else {}
        label = ['stars', 'length'] if task == several else label_of(task)
        how = dict(task='number' if task == several else task, label_col=label, max_unknown=1., epochs=(0, 0, 0, 0), lin_ftrs=None, C=0.05, **cols)
        paths = [save_bundle(train_classifier(table(), None, small_lm(d, i), direction=d, **how), folder/f'{task}-{d}') for i,d in enumerate(('fwd', 'bwd'))]
        made[task] = [load_bundle(p, precision='float32') for p in paths] + [load_bundle(*paths, precision='float32')]
    return made

@pytest.fixture(params=every)
def task(request): return request.param

@pytest.fixture(params=[0, 1], ids=['fwd', 'bwd'])
def one(request, models, task): return models[task][request.param]

@pytest.fixture
def asked(models, task):
    "The two that answer as one, labelled texts and the answers"
    both = models[task][2]
    frame = both.labelled(table())
    return both, frame, both.of_texts(list(frame.text), 8)

def row(one, i=1): return ('is it good', texts[i]) if one.target.pair else texts[i]
def ids_of(one, o): return one.to_ids.ids(one.texts_of([o]))[0]

def speaks(one, ids, k, model=None):
    "What speaks for answer `k`, from the answers alone"
    with torch.no_grad(): answers = one.target.answers((model or one.model)(torch.from_numpy(ids)[None])[0].double())[0]
    return float(answers[k]) if isinstance(one.target, Numbers) else float(answers[k].logit())

def told(call, *parts):
    "The call fails with one line that holds these words"
    with pytest.raises(CourseError) as e: call()
    assert '\n' not in str(e.value) and all(p in str(e.value) for p in parts), str(e.value)

class Page(HTMLParser):
    "No tag but ours, and each closed: nothing of a text or a label became one"
    def __init__(self, html):
        super().__init__()
        self.open = []
        self.feed(html)
        assert self.open == [], self.open
    def handle_starttag(self, tag, attributes):
        assert tag not in ('script', 'iframe')
        if tag not in ('br', 'img', 'source', 'meta'): self.open.append(tag)
    def handle_endtag(self, tag): assert self.open.pop() == tag

def closed(html): return Page(html.replace('<!doctype html><html lang="en">', '').replace('</html>', ''))

# --- words that count

def test_each_word_left_out_is_a_question_asked_again(one):
    ids, fld = ids_of(one, row(one)), one.to_ids.vocab.index('xxfld')
    marks = {j for i in np.flatnonzero(ids == fld) for j in (i, i + (-1 if one.to_ids.backwards else 1))} if one.target.pair else set()
    for k in range(len(one.labels)):
        parts, whole = leave_one_out(one.model, ids, k, bs=4, target=one.target), speaks(one, ids, k)
        for i in range(len(ids)):
            expected = 0. if i in marks else whole - speaks(one, np.delete(ids, i), k)
            assert parts[i] == pytest.approx(expected, abs=2e-3*max(1, abs(whole))), (k, i)

def test_integrated_gradients_add_up(one):
    ids, nothing = ids_of(one, row(one)), copy.deepcopy(one.model)
    nothing[0].module.encoder.weight.data.zero_()
    if one.target.pair: nothing[0].alignments = one.model[0].alignments   # how words meet stays as it is
    for k in range(len(one.labels)):
        difference = speaks(one, ids, k) - speaks(one, ids, k, nothing)
        parts = integrated_gradients(one.model, ids, k, 200, target=one.target)
        assert parts.sum() == pytest.approx(difference, rel=0.03, abs=0.03)

def test_a_gradient_is_what_fading_does(one):
    ids = ids_of(one, row(one))
    parts = gradient_input(one.model, ids, 0, target=one.target)
    faded = copy.deepcopy(one.model)
    faded[0].module.encoder.weight.data.mul_(1-1e-3)
    assert parts.sum() == pytest.approx((speaks(one, ids, 0) - speaks(one, ids, 0, faded))/1e-3, rel=0.05, abs=0.02)

def test_words_of_both_texts_count(models):
    for task in ('pair', 'similarity'):
        for one in models[task]:
            for method in (leave_one_out, gradient_input, integrated_gradients):
                tokens, parts = word_parts(one, ('is it good', 'a dull story'), 0, method)
                second = tokens.index('2')
                assert tokens[:3] == ['xxbos', 'xxfld', '1'] and np.abs(parts[3:second-1]).max() > 0 and np.abs(parts[second+1:]).max() > 0
                assert all(parts[tokens.index(mark)] == 0 for mark in ('xxfld', '1', '2'))
                assert highlight(tokens, parts).count('<br>') == 1

def test_the_reading_ends_at_the_answer(one):
    ids = ids_of(one, row(one))
    read = prefix_probs(one.model, ids, one.target)
    assert np.allclose(read[-1], one.run([ids])[0], atol=1e-4) and read.shape == (len(ids), len(one.labels))
    fig, alt = reading_figure([one.to_ids.vocab[i] for i in ids], read, one.target)
    assert alt.startswith('Probability of') != isinstance(one.target, Numbers) and len(fig.axes[0].lines) >= len(one.labels)

def test_a_pair_is_read_from_text_to_text(models):
    one = models['similarity'][0]
    read, whole = (lambda b: prefix_probs(one.model, ids_of(one, ('is it good', b)), one.target)[:, 0]), 'a dull story'.split()
    for n in range(1, len(whole)+1): assert read(' '.join(whole))[-1-len(whole)+n] == pytest.approx(read(' '.join(whole[:n]))[-1], abs=1e-4)

def test_an_answer_that_there_is_none_of_and_a_model_that_is_none(one):
    ids, n = ids_of(one, row(one)), len(one.labels)
    for method in (leave_one_out, gradient_input, integrated_gradients):
        told(lambda method=method: method(one.model, ids, n, target=one.target), f'no answer {n}', f'from 0 to {n-1}')
        told(lambda method=method: method(one, ids, 0), 'TextClassifier is no network of a text classifier')

# --- the worst texts

def test_losses_are_sorted_and_each_text_is_judged(asked):
    both, frame, answers = asked
    rows, target = top_losses(frame, answers, both.target), both.target
    n = len(target.labels) if isinstance(target, (Labels, Numbers)) else 1
    assert len(rows) == n*len(frame) and (np.diff(rows.loss) <= 1e-12).all() and ('question' in rows) == (n > 1)
    worst = rows.iloc[0]
    said = case_told(worst)
    assert 'the label is' in said and ('off by' in said) == isinstance(target, Numbers) and (str(worst.get('question', '')) in said)
    if isinstance(target, Numbers): assert worst.loss == pytest.approx(np.abs(np.array(list(frame.label)).reshape(len(frame), -1) - answers).max())
    elif n == 1: assert worst.loss == pytest.approx(max(-np.log(q[target.labels.index(l)]) for q,l in zip(answers, frame.label)))
    told(lambda: top_losses(frame, answers[:-1], target), '24 and 23')

def test_labels_of_another_target_are_refused(asked):
    both, frame, answers = asked
    told(lambda: top_losses(frame.assign(label=['no such thing']*len(frame)), answers, both.target), 'row 0')

# --- what was taken for what, and whether it may be believed

def test_confusion_where_it_makes_sense(asked):
    both, frame, answers = asked
    page, target = errors_html(both.target, list(frame.label), answers), both.target
    closed(page)
    assert page.count('<img') == (0 if isinstance(target, Labels) else len(target.labels) if isinstance(target, Numbers) else 1)
    if isinstance(target, Labels): told(lambda: confusion_matrix(frame.label, target.said(answers), target.labels), 'one label at a time')
    if target.labels == ['stars']: told(lambda: confusion_matrix(list(frame.label), list(answers[:, 0]), target.labels), 'not among the classes')

def test_calibration_of_what_has_a_probability(asked):
    both, frame, answers = asked
    y, target = list(frame.label), both.target
    if isinstance(target, Numbers):
        told(lambda: target.claims(y, answers), 'no probability')
        told(lambda: calibration(answers, [0]*len(y)), 'these are no probabilities')
        fig, alt = numbers_figure(top_losses(frame[:9], answers[:9, :1], Numbers(['$x_{'])) if len(target.labels) == 1 else
                                  target.cases(y, answers)['length'], '$x_{')
        return fig.canvas.draw()
    claims = target.claims(y, answers)
    assert len(claims) == (len(target.labels) if isinstance(target, Labels) else 1)
    for name,(p, so) in claims.items():
        rows = calibration(p, so)
        assert rows.n.sum() == len(y) and rows.accuracy.between(0, 1).all() and (rows.n*rows.accuracy).sum() == pytest.approx(sum(so))
        assert 0 <= expected_calibration_error(p, so) <= 1
        reliability_figure(rows, name)[0].canvas.draw()
    closed(trust_html(target, y, answers))

def test_yes_no_is_as_two_classes(models):
    yes, frame = models['binary'][0], models['binary'][0].labelled(table())
    answers, two = yes.of_texts(list(frame.text), 8), Classes(yes.labels)
    assert isinstance(yes.target, YesNo) and top_losses(frame, answers, yes.target).equals(top_losses(frame, answers, two))
    assert by_label(yes.target, list(frame.label), answers).equals(by_label(two, list(frame.label), answers))

# --- panels and pages

def test_every_cell_of_the_error_browser(asked):
    both, frame, answers = asked
    errors = ErrorBrowser(frame, answers, both.target)
    worst = top_losses(frame, answers, both.target).iloc[0]
    assert errors.losses.iloc[0].loss == worst.loss and f'{worst.loss:.2f}'[:3] in errors.view.value
    for _, value in errors.question.options:
        errors.question.value = value
        if not both.target.choices:
            assert 'furthest off first' in errors.view.value
            closed(errors.static_html())
            continue
        n = 0
        for errors.label.value in both.target.choices:
            for errors.predicted.value in both.target.choices:
                n += int(re.search(r' of ([\d,]+) texts with', errors.view.value)[1])
                closed(errors.static_html())
        assert n == len(frame)
    if both.target.pair: assert ' | ' in errors.view.value and 'xxfld' not in errors.view.value
    if both.target.kind in ('multilabel', 'regression'): told(lambda: ErrorBrowser(frame, answers), 'name the target')

def test_every_answer_is_explained(models, task):
    for clas in models[task]:
        explorer = PredictionExplorer(clas, list(row(clas)) if clas.target.pair else row(clas))
        for explorer.target.index in range(len(clas.labels)):
            explorer.leave_out(lambda share: None)
            closed(explorer.static_html())
            assert 'Agreement of the two' in explorer.reasons.value
            for box in explorer.texts: box.value += ' <script>'
        if isinstance(clas.target, Numbers): assert f'title="+0.000 {clas.labels[-1]}"' in explorer.reasons.value or clas.labels[-1] in explorer.reasons.value

def test_the_report_of_a_classifier(asked, tmp_path):
    both, frame, answers = asked
    table().to_csv(tmp_path/'t.csv', index=False)
    page = model_report(both, tmp_path/'t.csv', n=3)
    closed(page)
    assert page.count('the label is') == 3 and '<mark' in page
    assert all(k in page for k in both.target.scores(list(frame.label), answers)) and 't.csv: 24 rows' in page
    told(lambda: model_report(both, table(), label_col='nowhere'), 'nowhere')

def test_a_frame_of_labels_that_are_none(models):
    told(lambda: model_report(models['class'][0], table().assign(mood=['good', 'odd']*12)), 'the data frame, row 2', "'odd' was not seen in training")

def test_the_report_of_a_tagger_and_of_a_writer():
    rows = pd.DataFrame(dict(tokens=[['good', '<script>', 'film'], ['a', 'bad', 'song']]*6, tags=[['O', 'B-x', 'I-x'], ['O', 'O', 'B-<y>']]*6))
    tagger = train_tagger(rows, reader=WordReader([small_lm('fwd', 0)]), max_unknown=1, hidden=8, squeeze=16, spelling=8, epochs=2, bs=4, direction='fwd')
    page = model_report(tagger, rows, n=2)
    closed(page)
    assert '12 texts, in ' in page and page.count('It says') == page.count('It should be') <= 2
    class Echo(Seq2Seq):
        def __init__(self): pass
        def generate(self, texts): return texts
    page = model_report(Echo(), pd.DataFrame(dict(text=['a <b>film', 'a song'], target=['a <b>film', 'the story'])))
    closed(page)
    assert page.index('the story') < page.index('&lt;b&gt;film') and 'rouge_l' in page

def test_a_classifier_tells_the_worst_by_the_words_of_its_first_member(asked):
    both, frame, answers = asked
    found = worst_predictions(both, frame, answers, n=2, most=4)
    assert all(len(o['tokens']) == len(o['parts']) == 4 and np.isfinite(o['parts']).all() for o in found)
    assert all(('unit' in o) == isinstance(both.target, Numbers) for o in found)
