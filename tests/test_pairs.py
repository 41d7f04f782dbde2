"Two texts: which word meets which, the same by every way, and what was saved before words were compared"
import json
import numpy as np, pandas as pd, pytest, torch
from ulmfit_course.backends import PooledEncoder
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError
from ulmfit_course.documents import PairFields, SentenceEncoder, rarity, side_by_side, text_classifier, word_alignment
from ulmfit_course.export import export_onnx
from ulmfit_course.features import pooled_features
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.models import Checkpoint, save_checkpoint
from ulmfit_course.predictors import TextClassifier
from ulmfit_course.vocabulary import special_tokens

things = 'river king garden window doctor music station summer letter engine island winter'.split()
rng = np.random.default_rng(0)

def table(n=240):
    "Does the second text name the thing that the first one asks for?"
    asked = rng.integers(len(things), size=n)
    yes, far = np.arange(n) % 2 == 0, rng.integers(1, len(things), size=n)   # so many places further is another thing
    said = np.where(yes, asked, (asked + far) % len(things))
    rows = [(f'Where is the {things[a]}?', f'They saw a {things[s]} near the old house.', 'yes' if y else 'no') for a,s,y in zip(asked, said, yes)]
    return pd.DataFrame(rows, columns=['text1', 'text2', 'label'])

@pytest.fixture(scope='module')
def frame(): return table()
@pytest.fixture(scope='module')
def learners(frame): return train_classifier(frame[:180], None, 'wiki-small', task='pair', direction='both', max_unknown=1.)
@pytest.fixture(scope='module')
def items(frame): return [*zip(frame.text1[180:], frame.text2[180:])][:9] + [('', 'A king.'), ('Where is it?', ''), ('Where? '*40, 'There. '*90)]

def by_hand(a, b, words):
    "`word_alignment` in loops of numpy"
    a, b = ([i for i in o.tolist() if i >= len(special_tokens)] for o in (a, b))
    mean = words[a + b].mean(0)
    unit = lambda i: (words[i]-mean)/np.linalg.norm(words[i]-mean)
    vectors, shares = [], []
    for own, other in ((a, b), (b, a)):
        weight = np.log([max(1, i-8) for i in own])
        rows = []
        for i in own:
            met = max(other, key=lambda j: unit(i) @ unit(j))
            near = unit(i) @ unit(met)
            rows.append(np.concatenate([abs(unit(i)-unit(met)), unit(i)*unit(met), (1-near)*unit(i), [float(i in other), near]]))
        mean_row = np.average(rows, axis=0, weights=weight)
        vectors.append(mean_row[:-2]); shares.append(mean_row[-2:])
    return np.concatenate([*vectors, *shares])

@pytest.mark.parametrize('seed', range(3))
def test_alignment_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    words, a, b = rng.normal(size=(60, 5)), rng.integers(0, 60, 12), rng.integers(0, 60, 7)
    got = word_alignment(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(words).float())
    assert got.shape == (6*5 + 4,) and np.allclose(got, by_hand(a, b, words), atol=1e-5)

def test_rare_words_weigh_more():
    ids = torch.tensor([0, 1, 2, 8, 9, 10, 100, 30_000])
    assert rarity(ids)[:5].eq(0).all() and rarity(ids)[4:].diff().gt(0).all()

@pytest.mark.parametrize('a,b', [([2], [2, 30]), ([0, 0], [30]), ([2, 8], [8, 5]), ([9], [9]), ([40], [40]), ([9, 9], [50])])
def test_texts_without_words_or_with_one(a, b):
    words = torch.randn(60, 5, requires_grad=True)
    got = word_alignment(torch.tensor(a), torch.tensor(b), words)
    (got.sum() + 0*words.sum()).backward()
    assert got.isfinite().all() and words.grad.isfinite().all()

def test_every_way_says_the_same(learners, items, tmp_path):
    probs = []
    for learn in learners:
        clas = load_bundle(save_bundle(learn, tmp_path/learn.config['direction']), precision='float32')
        assert clas.model[0].aligned and clas.config['head']['aligned']
        expected, ids = learn.get_preds(dl=learn.dls.test_dl(items))[0].numpy(), clas.to_ids.ids(clas.texts_of(items))
        for got in (clas.probabilities(items), clas.probabilities(items, bs=2), clas.run(ids), [clas.probabilities([o])[0] for o in items]):
            assert np.allclose(got, expected, atol=1e-5)
        assert torch.allclose(pooled_features(clas.encode, ids), clas.encode(ids), atol=1e-5)
        with torch.no_grad(): seen = [clas.model[1].pool(clas.model[0](torch.from_numpy(o)[None]))[0] for o in ids]
        assert torch.allclose(torch.stack(seen), clas.encode(ids), atol=1e-4)
        probs.append(clas.probabilities(items))
    both = load_bundle(save_bundle(learners, tmp_path/'both'), precision='float32')
    assert np.allclose(both.probabilities(items), np.mean(probs, 0), atol=1e-5)

@pytest.mark.parametrize('precision', ['bf16', 'int8'])
def test_other_precisions_are_near(learners, items, precision):
    exact, near = (TextClassifier(learners[0].checkpoint(), precision=p).probabilities(items) for p in ('float32', precision))
    assert np.abs(exact - near).max() < 0.05

def test_no_pairs(learners):
    clas = TextClassifier(learners[0].checkpoint(), precision='float32')
    wide = 18*256 + 4
    assert clas.encode([]).shape == (0, wide) and len(clas.probabilities([])) == 0 and clas.model[1].layers[0][0].num_features == wide

def test_what_pooled_states_cannot_see(learners, frame):
    "Both texts have the same form: only the word decides"
    truth, held = frame.label[180:].to_numpy(), list(zip(frame.text1[180:], frame.text2[180:]))
    right = [np.mean([clas.predict(o)[0] == t for o,t in zip(held, truth)]) for clas in (TextClassifier(l.checkpoint()) for l in learners)]
    assert min(right) > 0.95
    x, y = learners[0].pooled(learners[0].dls.train)
    assert x.shape[1] == 18*256 + 4 and torch.corrcoef(torch.stack([x[:, -4], y.float()]))[0, 1] > 0.9   # the share of the question's words

def test_only_the_pooled_tokens_are_aligned():
    ids = np.array([2, 4, 9, *range(20, 40), 4, 10, 30, 31])
    model = text_classifier(60, 2, dict(emb_sz=8, n_hid=12, n_layers=2), fields=PairFields(4), aligned=True, max_len=5).eval()
    encode = PooledEncoder(model[0], 'float32')
    a, b = (torch.from_numpy(o)[-5:] for o in PairFields(4)(ids))
    assert torch.allclose(encode([ids])[0, -52:], word_alignment(a, b, model[0].module.encoder.weight.detach()), atol=1e-6)

def test_a_bundle_from_before_words_were_compared(learners, items, tmp_path):
    learn = learners[0]
    ck = learn.checkpoint()
    old = text_classifier(len(ck.vocab), 2, ck.config['arch'], lin_ftrs=None, fields=PairFields(ck.vocab.index('xxfld'))).eval()
    old[0].module.load_state_dict(learn.model[0].module.state_dict())
    config = ck.config | dict(head={k: v for k,v in ck.config['head'].items() if k != 'aligned'})
    path = save_checkpoint(tmp_path/'old', Checkpoint(old.state_dict(), ck.vocab, config))
    clas = load_bundle(path, precision='float32')
    ids = clas.to_ids.ids(clas.texts_of(items))
    u, v = PooledEncoder(SentenceEncoder(72, learn.model[0].module), 'float32')(clas.encode.texts(ids)).chunk(2)
    with torch.no_grad(): expected = old[1].layers(side_by_side(u, v)).softmax(1)
    assert np.allclose(clas.probabilities(items), expected, atol=1e-5)
    told = json.loads((path/'config.json').read_text('utf8'))
    for bad, says in ((1, 'head.aligned is 1, not true or false'), (True, 'the weights do not fit')):
        (path/'config.json').write_text(json.dumps(told | dict(head=told['head'] | dict(aligned=bad))))
        with pytest.raises(CourseError, match=says): load_bundle(path)

def test_a_graph_of_pairs_is_refused(learners, tmp_path):
    with pytest.raises(CourseError, match='pairs') as e: export_onnx(TextClassifier(learners[0].checkpoint()), tmp_path/'p.onnx')
    assert '\n' not in str(e.value) and not [*tmp_path.iterdir()]

def test_a_trained_head_learns_through_the_alignment(frame):
    fit = dict(epochs=(1, 0, 0, 1), lin_ftrs=8, window=150, bs=32)
    learn = train_classifier(frame[:64], None, 'wiki-small', task='pair', max_unknown=1., **fit)
    clas = TextClassifier(learn.checkpoint(), precision='float32')
    items = list(zip(frame.text1[:5], frame.text2[:5]))
    assert np.allclose(clas.probabilities(items), learn.get_preds(dl=learn.dls.test_dl(items))[0], atol=1e-5)
