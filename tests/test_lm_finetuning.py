"Stage 2: matched words, rates, schedules against the paper's formulas, files that know their words, runs that go on"
import inspect, json, math
import numpy as np, pytest, torch
from fastai.callback.core import Callback
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.learners import language_model_learner
from ulmfit_course.lm_finetuning import discriminative, finetune_lm, slanted_triangular
from ulmfit_course.models import Checkpoint, load_checkpoint, match_vocab, model_of, reverse_direction, vocab_coverage, words_en
from ulmfit_course.streams import TokenStream

words = ['xxunk', 'xxpad', 'xxbos', *'abcdefghijklmnop']
config = dict(emb_sz=8, n_hid=12, n_layers=2)

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

def checkpoint(direction='fwd'):
    set_seed(0)
    return Checkpoint(language_model(len(words), config).state_dict(), words, dict(format=2, arch=config, stage='pretraining', direction=direction, tokenizer=words_en))

def stream(n, vocab=words, seed=0):  # each letter is followed by the next one, three times in four
    rng, ids = np.random.default_rng(seed), [3]
    for _ in range(n-1): ids.append(3 + (ids[-1]-2)%16 if rng.random() < 0.75 else int(rng.integers(3, 19)))
    return TokenStream(np.array(ids, dtype=np.uint16), vocab)

def learner(model=None, vocab=words, **kw):
    dls = lm_dataloaders(stream(4000, vocab), stream(800, vocab, 1), bs=4, seq_len=16, device='cpu')
    return language_model_learner(dls, model or checkpoint(), verbose=False, **kw)

def fitted(learn, n=1, lr=1e-2):
    with learn.no_bar(), learn.no_logging(): learn.fit_slanted_triangular(n, lr)
    return learn

def test_matched_words_keep_their_rows_and_new_ones_get_the_mean():
    ck, vocab = checkpoint(), ['xxunk', 'xxpad', 'xxbos', 'zeta', *reversed(words[3:])]
    new = match_vocab(ck, vocab)
    for key in ('0.encoder.weight', '1.decoder.bias'):
        old = ck.weights[key]
        for i,w in enumerate(vocab): assert torch.allclose(new.weights[key][i], old[words.index(w)] if w in words else old.mean(0), atol=1e-7)
    assert new.weights['1.decoder.weight'] is new.weights['0.encoder.weight']
    assert match_vocab(ck, words) is ck and vocab_coverage(words, vocab) == pytest.approx(19/20)

def test_a_reordered_vocabulary_changes_no_probability():
    ck, order = checkpoint(), [0, 1, 2, *reversed(range(3, 19))]
    x = torch.tensor([[3, 9, 4, 17]])
    place = torch.tensor([order.index(i) for i in range(19)])
    a, b = (model_of(c).eval() for c in (ck, match_vocab(ck, [words[i] for i in order])))
    with torch.no_grad(): assert torch.allclose(a(x)[0], b(place[x])[0][..., place], atol=1e-6)

@pytest.mark.parametrize('T,cut_frac,ratio', [(1000, 0.1, 32), (500, 0.3, 10)])
def test_the_papers_triangle(T, cut_frac, ratio):
    cut = math.floor(T*cut_frac)  # equation 3, as printed
    for t in range(T):
        p = t/cut if t < cut else 1 - (t-cut)/(cut*(1/cut_frac-1))
        assert slanted_triangular(t/T, cut_frac, ratio) == pytest.approx((1 + p*(ratio-1))/ratio, abs=1e-9)

def test_every_group_follows_the_triangle():
    seen, learn = [], learner()
    class Rates(Callback):
        order = 61  # after the scheduler
        def before_batch(self):
            if self.training: seen.append([h['lr'] for h in self.opt.hypers])
    learn.unfreeze()
    peak = discriminative(1e-2, len(learn.opt.param_lists), 2.)
    assert np.allclose(peak[1:]/peak[:-1], 2) and peak[-1] == 1e-2
    learn.add_cb(Rates()); fitted(learn, 2, peak)
    n = len(seen)
    assert np.allclose(seen, [[r*slanted_triangular(i/n) for r in peak] for i in range(n)])
    with pytest.raises(CourseError, match='2 rates for'): learn.fit_slanted_triangular(1, [1e-2, 1e-3])

def test_frozen_layers_stay_and_training_learns():
    learn = learner()
    before = {k: v.clone() for k,v in learn.model.state_dict().items()}
    fitted(learn)
    moved = {k for k,v in learn.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and not any('rnns' in k for k in moved)
    learn.unfreeze(); first = learn.validate()[0]
    fitted(learn, 4, 2e-2)
    assert learn.validate()[0] < first - 0.3

def test_files_know_their_words_and_direction(tmp_path):
    learn = learner(path=tmp_path)
    folder = fitted(learn).save_encoder('enc')
    ck = load_checkpoint(folder)
    assert ck.vocab == words and all(torch.allclose(ck.weights[k], v.float(), atol=1e-6) for k,v in learn.model.state_dict().items())
    learn.save('all')
    loss, other = learn.validate()[0], learner(path=tmp_path)
    assert other.load('all').validate()[0] == pytest.approx(loss, abs=1e-6)
    (tmp_path/'models'/'all.json').rename(tmp_path/'note')
    with pytest.raises(CourseError, match='check=False'): other.load('all')
    assert other.load('all', check=False).validate()[0] == pytest.approx(loss, abs=1e-6)
    (tmp_path/'note').rename(tmp_path/'models'/'all.json')
    with pytest.raises(CourseError, match='another vocabulary'): learner(vocab=[*words[:3], *reversed(words[3:])], path=tmp_path).load('all')
    with pytest.raises(CourseError, match='reads backwards'): learner(checkpoint('bwd'))
    with pytest.raises(CourseError, match='loaders give the text forwards'): learner(checkpoint('bwd'), backwards=True)
    with pytest.raises(CourseError, match='same language'): learner(vocab=['xxunk', 'xxpad', 'xxbos', *'αβγδεζηθικλμνξοπ'])

def test_reverse_direction():
    "Only the direction is another; a learner for that direction takes it, with the same weights"
    ck = checkpoint()
    other = reverse_direction(ck)
    assert other.config == dict(ck.config, direction='bwd') and ck.direction == 'fwd' and reverse_direction(other).config == ck.config
    assert other.vocab == ck.vocab and all(torch.equal(v, ck.weights[k]) for k,v in other.weights.items())
    text = lm_dataloaders(stream(4000), stream(800, seed=1), 4, 16, backwards=True, device='cpu')
    learn = language_model_learner(text, other, backwards=True, verbose=False)
    assert learn.checkpoint().direction == 'bwd'

def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    kw = dict(epochs=3, bs=4, seq_len=16, bar=False)
    text = stream(4000), stream(800, seed=1)
    set_seed(1); whole = finetune_lm(checkpoint(), *text, tmp_path/'whole', **kw)
    from ulmfit_course.training import SaveTraining
    saved = SaveTraining.after_epoch
    def stop(self):
        saved(self)
        if self.epoch == 1: raise RuntimeError('stopped')
    monkeypatch.setattr(SaveTraining, 'after_epoch', stop)
    set_seed(1)
    with pytest.raises(RuntimeError): finetune_lm(checkpoint(), *text, tmp_path/'halted', **kw)
    assert not (tmp_path/'halted').exists()
    monkeypatch.setattr(SaveTraining, 'after_epoch', saved)
    set_seed(7); again = finetune_lm(checkpoint(), *text, tmp_path/'halted', **kw)
    assert all(torch.allclose(whole.weights[k], again.weights[k], atol=1e-3) for k in whole.weights)
    assert [c['epoch'] for c in again.config['card']['curve']] == [1, 2, 3]
    with pytest.raises(CourseError, match='other text, sizes or settings'): finetune_lm(checkpoint(), *text, tmp_path/'halted', **kw, lr=1e-4)
    with pytest.raises(CourseError, match="unknown setting 'lrr'"): finetune_lm(checkpoint(), *text, tmp_path/'x', lrr=1, **kw)

@pytest.mark.parametrize('variable_bptt', [False, True])
def test_the_record_holds_the_whole_recipe(tmp_path, variable_bptt):
    text = stream(3000), stream(800, seed=1)
    make = lambda name: finetune_lm(checkpoint(), *text, tmp_path/name, epochs=1, bs=4, seq_len=16, bar=False, variable_bptt=variable_bptt, seed=5)
    one, two = make('one'), make('two')
    assert all(torch.equal(one.weights[k], two.weights[k]) for k in one.weights)  # the seed decides
    run = json.loads((tmp_path/'one'/'run.json').read_text())
    assert run['seed'] == 5 and run['card'] == one.config['card']
    recipe = dict(epochs=1, shards=0, lr=3e-3, bs=4, seq_len=16, drop_mult=0.3, wd=0.01, clip=0.4, variable_bptt=variable_bptt, num_sampled=2000, direction='fwd', seed=5, factor=2.6)
    assert run['config'] == dict(recipe, stage='lm_finetuning', arch=one.config['arch'])
    assert run['card']['command'] == "finetune_lm('a checkpoint', train, valid, out, " + ', '.join(f'{k}={v!r}' for k,v in recipe.items()) + ')'
    typed = eval(run['card']['command'], dict(finetune_lm=inspect.signature(finetune_lm).bind, train=1, valid=2, out=3)).arguments   # as one would type it
    assert typed == dict(model='a checkpoint', train=1, valid=2, out=3, changes=recipe)

def test_built_text_leaves_its_hash_in_the_record(tmp_path):
    train = TokenStream.build([f'the film number {i} is a film of {i%7} friends' for i in range(300)], tmp_path/'t', n_procs=1)
    valid = TokenStream.build(['the film is a number of friends']*40, tmp_path/'v', vocab=train.vocab, n_procs=1)
    ck = Checkpoint(language_model(len(train.vocab), config).state_dict(), train.vocab, dict(arch=config, stage='pretraining', direction='fwd'))
    finetune_lm(ck, train[:2000], valid[:200], tmp_path/'m', epochs=1, bs=4, seq_len=16, bar=False)
    assert json.loads((tmp_path/'m'/'run.json').read_text())['data_hash'] == train.meta['data_hash'] is not None

def test_predict_takes_fastais_names():
    learn = learner()
    said = learn.predict('a b', 5, True, 0.8, seed=1)                             # fastai's order
    assert said == learn.predict('a b', n_words=5, no_unk=True, temperature=0.8, no_bar=True, only_last_word=True, seed=1)
    with pytest.warns(UserWarning, match='no effect'): assert learn.predict('a b', 5, temperature=0.8, min_p=0.01, seed=1) == said
