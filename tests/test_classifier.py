"Stage 3 against plain loops, against fastai, and against what a user may do wrong"
import copy
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pandas as pd, pytest, torch
from torch import nn
from fastai.text.models import core as fastai_core
import ulmfit_course.classifier  # noqa: F401 (which gives the learner `fit_gradually`)
from ulmfit_course.awd_lstm import AWD_LSTM, language_model
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.documents import SentenceEncoder, concat_pool, right_pad, text_classifier
from ulmfit_course.evaluation import mean_probs, predictions, scores, tfidf_baseline
from ulmfit_course.learners import text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import Checkpoint, save_checkpoint

torch.set_num_threads(1)
sizes = dict(emb_sz=12, n_hid=16, n_layers=3)
good, bad = 'great fun lovely superb touching'.split(), 'awful dull boring weak tedious'.split()
words = ['xxunk', 'xxpad', 'xxbos', 'xxeos', 'xxfld', 'xxrep', 'xxwrep', 'xxup', 'xxmaj', '.', 'a', 'the', 'film', 'was', 'and', *good, *bad]

def frame(n, seed=0):
    "Made-up reviews that a linear model can tell apart"
    rng = np.random.default_rng(seed)
    def review(label): return ' '.join(['the film was', *rng.choice(good if label == 'pos' else bad, rng.integers(2, 40)), '.'])
    labels = ['pos', 'neg']*(n//2)
    return pd.DataFrame(dict(text=[review(l) for l in labels], label=labels))

def checkpoint(vocab=words, backwards=False, seed=0):
    torch.manual_seed(seed)
    return Checkpoint(language_model(len(vocab), sizes).state_dict(), list(vocab), dict(arch=sizes, stage='lm_finetuning', backwards=backwards))

@pytest.fixture(scope='module')
def dls(): return classifier_dataloaders(frame(32), frame(16, 1), words, bs=8, device='cpu')

def test_a_text_is_never_alone_in_a_batch():
    with pytest.raises(CourseError, match='bs=1'): classifier_dataloaders(frame(8), frame(8, 1), words, bs=1, device='cpu')
    learn = text_classifier_learner(classifier_dataloaders(frame(10)[:9], frame(10, 1)[:9], words, bs=4, device='cpu'), checkpoint(), verbose=False)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)   # 4, 4, and not 1
    assert len(learn.get_preds(dl=learn.dls.valid)[0]) == 9   # to judge, one may be alone

@pytest.fixture
def learn(dls): return text_classifier_learner(dls, checkpoint(), verbose=False)

def awd(seed=0, vocab_sz=50):
    torch.manual_seed(seed)
    return AWD_LSTM(vocab_sz, **sizes).eval()

def test_concat_pool_against_a_loop():
    torch.manual_seed(0)
    states, mask = torch.randn(6, 9, 5), torch.rand(6, 9) < 0.5
    mask[:, 4] = False
    for got, rows, hidden in zip(concat_pool(states, mask), states.tolist(), mask.tolist()):
        seen = [r for r,h in zip(rows, hidden) if not h]
        columns = list(zip(*seen))
        expected = seen[-1] + [max(c) for c in columns] + [sum(c)/len(c) for c in columns]
        assert np.allclose(got, expected, atol=1e-6)

def test_right_pad_against_a_loop():
    ids = torch.from_numpy(np.random.default_rng(0).choice([1, 5, 6, 7], (20, 11)))
    rows, lens = right_pad(ids)
    for before, after, n in zip(ids.tolist(), rows.tolist(), lens.tolist()):
        real = [o for o in before if o != 1]
        assert after == real + [1]*(11-len(real)) and n == len(real)

def plain_states(module, ids):
    "All states of one text, read in one go"
    module = copy.copy(module)
    module.reset()
    with torch.no_grad(): return module(ids[None])[0]

@pytest.mark.parametrize('max_len', [7, 30, 1000])
def test_encoder_equals_reading_each_text_whole(max_len):
    module, rng = awd(), np.random.default_rng(0)
    texts = [torch.from_numpy(rng.integers(2, 50, n)) for n in (1, 83, 8, 9, 40, 16)]
    batch = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1)
    with torch.no_grad(): states, mask = SentenceEncoder(8, module, max_len=max_len)(batch)
    for text, row, hidden in zip(texts, states, mask):
        expected = plain_states(module, text)[-max_len:]
        assert torch.allclose(row[~hidden], expected, atol=1e-5) and len(expected) == min(len(text), max_len)

@pytest.mark.parametrize('bs', [1, 2, 5])
def test_logits_do_not_depend_on_batch_or_padding(bs):
    torch.manual_seed(0)
    model, rng = text_classifier(50, 3, sizes, max_len=90).eval(), np.random.default_rng(1)
    texts = [torch.from_numpy(rng.integers(2, 50, n)) for n in (219, 200, 180, 146, 145, 113, 3)]
    with torch.no_grad(): alone = torch.cat([model(t[None])[0] for t in texts])
    for s in range(0, len(texts), bs):
        part = texts[s:s+bs]
        behind = nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=1)
        front = torch.stack([nn.functional.pad(t, (behind.shape[1]-len(t), 0), value=1) for t in part])
        chunked = torch.stack([nn.functional.pad(t, ((gap := behind.shape[1]-len(t))//72*72, gap % 72), value=1) for t in part])
        for batch in (behind, front, chunked):
            with torch.no_grad(): assert torch.allclose(model(batch)[0], alone[s:s+bs], atol=1e-5)

def test_fastai_agrees_where_it_reads_every_token():
    torch.manual_seed(0)
    module = awd()
    text = torch.randint(2, 50, (1, 150))
    with torch.no_grad(): ours, theirs = SentenceEncoder(72, module)(text), fastai_core.SentenceEncoder(72, module, 1, 20*72)(text)
    assert torch.allclose(ours[0], theirs[0], atol=1e-6)
    assert torch.allclose(concat_pool(*ours), fastai_core.masked_concat_pool(*theirs, 72), atol=1e-6)

def test_gradients_only_in_the_last_tokens():
    module = AWD_LSTM(500, **sizes).eval()
    short, long = torch.arange(460, 470), torch.arange(10, 410)
    batch = nn.utils.rnn.pad_sequence([short, long], batch_first=True, padding_value=1)
    concat_pool(*SentenceEncoder(72, module, max_len=100)(batch)).sum().backward()
    sizes_ = module.encoder.weight.grad.norm(dim=1)
    assert (sizes_[10:10+288] == 0).all() and (sizes_[310:410] > 0).all() and (sizes_[short] > 0).all()

def test_states_of_a_long_text_are_not_kept():
    module = awd()
    states, mask = SentenceEncoder(72, module, max_len=144)(torch.randint(2, 50, (1, 5000)))
    assert states.shape[1] < 144+2*72 and (~mask).sum() == 144

def test_threads_do_not_disturb_each_other():
    encoder = SentenceEncoder(16, awd())
    texts = [torch.randint(2, 50, (1, n)) for n in range(20, 260, 10)]
    def read(ids):
        with torch.no_grad(): return concat_pool(*encoder(ids))
    expected = [read(t) for t in texts]
    with ThreadPoolExecutor(8) as pool: got = list(pool.map(read, texts*4))
    assert all(torch.equal(a, b) for a,b in zip(got, expected*4))

def unequal(n_class, seed=0):
    "Made-up reviews, many of one class and few of another"
    return pd.concat([frame(24, seed+i).assign(label=f'c{i}')[:24-6*i] for i in range(n_class)]).reset_index(drop=True)

@pytest.mark.parametrize('n_class, emphasis', [(2, 1.), (3, 1.), (3, 0.), (3, -1.)])
def test_solve_head_is_logistic_regression(n_class, emphasis):
    from sklearn.linear_model import LogisticRegression
    train, valid = unequal(n_class), unequal(n_class, 7)
    learn = text_classifier_learner(classifier_dataloaders(train, valid, words, bs=8, device='cpu'), checkpoint(), lin_ftrs=None, verbose=False)
    before = copy.deepcopy(learn.model[0].state_dict())
    assert learn.solve_head(C=.5, emphasis=emphasis) is learn
    (x, y), (x_valid, _) = ([o.numpy() for o in learn.pooled(dl)] for dl in (learn.dls.train, learn.dls.valid))
    spread = (x.var(0)+1e-5)**.5
    pool = np.repeat([(o**2).mean()**.5 for o in np.split(spread, 3)], len(spread)//3)
    scaled = lambda o: (o-x.mean(0))*{1: spread/pool**2, 0: 1/pool, -1: 1/spread}[emphasis]
    expected = LogisticRegression(C=.5, max_iter=1000).fit(scaled(x), y).predict_proba(scaled(x_valid))
    with torch.no_grad(): got = learn.model[1].layers(torch.from_numpy(x_valid)).softmax(1).numpy()
    assert np.allclose(got, expected, atol=1e-3) and np.ptp(expected) > .2
    assert all(torch.equal(v, before[k]) for k,v in learn.model[0].state_dict().items())

def test_solve_head_says_what_it_cannot_solve(dls):
    with pytest.raises(CourseError, match='lin_ftrs=None'): text_classifier_learner(dls, checkpoint(), verbose=False).solve_head()
    more = classifier_dataloaders(frame(32), frame(16, 1), words, labels=['neg', 'odd', 'pos'], bs=8, device='cpu')
    with pytest.raises(CourseError, match="labelled 'odd'"): text_classifier_learner(more, checkpoint(), lin_ftrs=None, verbose=False).solve_head()

def opened(learn): return [any(o.requires_grad and o.ndim > 1 for o in g) for g in learn.splitter(learn.model)]

def test_fit_gradually_opens_one_group_after_another(learn, monkeypatch):
    seen = []
    monkeypatch.setattr(learn, 'fit_one_cycle', lambda n, lr, **kw: seen.append((n, opened(learn), lr[0], lr[-1])))
    learn.fit_gradually((3, 2, 1, 4), lr=1e-2, factor=2.)
    assert [n for n,*_ in seen] == [3, 2, 1, 4]
    assert [sum(o) for _,o,*_ in seen] == [1, 2, 3, 5] and all(o == sorted(o) for _,o,*_ in seen)
    assert [hi/lo for *_,lo,hi in seen] == pytest.approx([16.]*4)
    assert [hi for *_,hi in seen] == pytest.approx([1e-2, 5e-3, 2.5e-3, 1e-3])
    seen.clear(); learn.fit_gradually((1, 0, 0, 2))
    assert [n for n,*_ in seen] == [1, 2]
    with pytest.raises(CourseError, match='one for each step'): learn.fit_gradually((1, 2))

def test_frozen_weights_stay(learn):
    before = copy.deepcopy(learn.model.state_dict())
    with learn.no_bar(), learn.no_logging(): learn.fit_gradually((1, 0, 0, 0))
    after = learn.model.state_dict()
    assert all(torch.equal(after[k], v) for k,v in before.items() if k.startswith('0.'))
    assert not torch.equal(after['1.layers.0.2.weight'], before['1.layers.0.2.weight'])

def test_it_learns_and_the_five_lines_work(dls, capsys):
    set_seed(0)
    learn = text_classifier_learner(dls, checkpoint([*words, 'other']))
    assert '100.0% of 25 words' in capsys.readouterr().out
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(15, 4e-2, lr_mult=2)  # from random weights, so large rates everywhere
    probs, y = predictions(learn)
    assert probs.shape == (16, 2) and list(y) == [1, 0]*8 and (probs.argmax(1) == y).mean() > 0.9
    capsys.readouterr()
    label, index, p = learn.predict('the film was great fun and lovely .')
    assert label == 'pos' == dls.vocab[1][index] and p.sum() == pytest.approx(1) and capsys.readouterr().out == ''
    table = learn.show_results(max_n=5)
    assert list(table.columns) == ['text', 'label', 'predicted', 'probability'] and len(table) == 5
    assert all(any(w in t for w in good) == (l == 'pos') for t,l in zip(table.text, table.label))
    with pytest.raises(CourseError, match='must be a string'): learn.predict(3)

def test_predictions_keep_the_order(learn):
    set_seed(0)
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(15, 4e-2, lr_mult=2)
    texts = list(frame(16, 2).text)
    probs, y = predictions(learn, learn.dls.test_dl(texts))
    assert y is None and np.ptp(probs[:, 0]) > 0.5
    for i in range(16): assert np.allclose(learn.predict(texts[i])[2], probs[i], atol=5e-3)

def test_words_get_their_own_rows(dls):
    turned = words[:9] + words[:8:-1]
    other = text_classifier_learner(classifier_dataloaders(frame(8), frame(8, 1), turned, bs=4, device='cpu'), ck := checkpoint(), verbose=False)
    for w in ('great', 'film', 'xxunk'):
        assert torch.equal(other.model[0].module.encoder.weight[turned.index(w)], ck.weights['0.encoder.weight'][words.index(w)])

def test_the_share_of_known_words_is_told_where_the_vocabulary_is_another(dls, capsys):
    text_classifier_learner(dls, checkpoint())
    assert capsys.readouterr().out == ''
    text_classifier_learner(dls, checkpoint(words[:-1]))
    assert '96.0% of 25 words are known to the model' in capsys.readouterr().out

def test_refusals(dls, tmp_path):
    with pytest.raises(CourseError, match='reads backwards'): text_classifier_learner(dls, checkpoint(backwards=True), verbose=False)
    with pytest.raises(CourseError, match='loaders give the text forwards'): text_classifier_learner(dls, checkpoint(backwards=True), backwards=True, verbose=False)
    back = classifier_dataloaders(frame(8), frame(8, 1), words, bs=4, backwards=True, device='cpu')
    with pytest.raises(CourseError, match='reads forwards'): text_classifier_learner(back, checkpoint(), backwards=True, verbose=False)
    foreign = checkpoint([*words[:2], *(f'mot{i}' for i in range(30))])
    with pytest.raises(CourseError, match='same language'): text_classifier_learner(dls, foreign, verbose=False)
    small = text_classifier_learner(dls, None, config=dict(sizes, n_hid=8))
    with pytest.raises(CourseError, match='sizes'): small.load_encoder(checkpoint(), verbose=False)
    with pytest.raises(CourseError, match='no pretrained model'): text_classifier_learner(dls, tmp_path/'nothing')

def test_encoder_from_a_folder(dls, tmp_path):
    ck = checkpoint(seed=3)
    learn = text_classifier_learner(dls, save_checkpoint(tmp_path/'lm', ck), verbose=False)
    assert torch.equal(learn.model[0].module.encoder.weight, ck.weights['0.encoder.weight']) and opened(learn) == [False]*4 + [True]

def test_from_scratch_is_open(dls): assert all(opened(text_classifier_learner(dls, None, config=sizes)))

def test_backward_results_are_shown_the_right_way_round():
    dls = classifier_dataloaders(frame(8), frame(8, 1), words, bs=4, backwards=True, device='cpu')
    table = text_classifier_learner(dls, checkpoint(backwards=True), backwards=True, verbose=False).show_results(max_n=3)
    assert all(t.lower().startswith('the film was') for t in table.text)

def test_tfidf_learns_what_it_should():
    train, test = frame(60, 4), frame(20, 5)
    probs, pipe = tfidf_baseline(train, test)
    assert list(pipe.classes_) == ['neg', 'pos'] and scores(['neg', 'pos'], test.label, probs)['accuracy'] == 1
    weight = dict(zip(pipe[0].get_feature_names_out(), pipe[-1].coef_[0]))
    assert all(weight[w] > 0 for w in good) and all(weight[w] < 0 for w in bad) and 'film was' in weight

def test_scores_by_hand():
    got = scores(['a', 'b'], ['a', 'a', 'a', 'b'], [[.9, .1], [.8, .2], [.3, .7], [.4, .6]])
    f1 = (2*1*(2/3)/(1+2/3) + 2*.5*1/1.5)/2
    assert got == pytest.approx(dict(accuracy=.75, precision=.75, recall=(2/3+1)/2, f1=f1, n=4))

def test_mean_probs():
    a, b = np.array([[.9, .1], [.6, .4]]), np.array([[.5, .5], [.2, .8]])
    assert np.allclose(mean_probs(a, b), [[.7, .3], [.4, .6]]) and np.allclose(mean_probs(a), a)
    with pytest.raises(CourseError, match='same texts'): mean_probs(a, b[:1])

def test_a_misspelt_setting_is_an_error(dls):
    with pytest.raises(CourseError, match='n_layer'): text_classifier_learner(dls, None, config=dict(emb_sz=12, n_layer=3))
