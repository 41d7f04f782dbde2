"The AWD-LSTM, its layer and its losses against torch and fastai: same numbers, same files, same learners"
import copy, os, pickle, platform, subprocess, sys
import pytest, torch, torch.nn.functional as F
from torch import nn
from fastai.callback.core import Callback
from fastai.text.all import (AWD_LSTM as FastaiLSTM, Categorize, CrossEntropyLossFlat, Datasets, LMDataLoader, Numericalize,
    Perplexity, SortedDL, accuracy, get_language_model, get_text_classifier, language_model_learner, pad_input_chunk, text_classifier_learner)
from ulmfit_course import lstm
from ulmfit_course.awd_lstm import AWD_LSTM, language_model, lm_config, small_config
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.lstm import LSTMFunction, _torch_lstm
from ulmfit_course.models import Checkpoint, load_checkpoint, load_fastai_weights, save_checkpoint
from ulmfit_course.training import BF16, FusedLoss, bf16_available, linear_cross_entropy, sampled_cross_entropy, sampling_chances

tiny = dict(lm_config, emb_sz=12, n_hid=20)
vocab = ['xxunk', 'xxpad', 'xxbos'] + [f'w{i}' for i in range(30)]

def largest(a, b):
    a, b = list(a), list(b)
    assert len(a) == len(b) > 0 and all(x.shape == y.shape for x,y in zip(a, b))
    return max((x-y).abs().max().item() for x,y in zip(a, b))

def grads(loss, model): return torch.autograd.grad(loss, list(model.parameters()))

def pair(config, vocab_sz, drop_mult=0.):
    "fastai's language model and ours with the same weights"
    torch.manual_seed(0); theirs = get_language_model(FastaiLSTM, vocab_sz, config=config, drop_mult=drop_mult)
    theirs[0].encoder.weight.data.mul_(10)  # as after training: the first weights give logits near zero
    ours = language_model(vocab_sz, config, drop_mult)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours

def lm_dls():
    texts = ['xxbos ' + ' '.join(f'w{(i*j)%30}' for j in range(40)) for i in range(1, 13)]
    ds = Datasets(texts, [[str.split, Numericalize(vocab=vocab)]], splits=[list(range(8)), list(range(8, 12))], dl_type=LMDataLoader)
    return ds.dataloaders(bs=4, seq_len=8, num_workers=0)

def clas_dls():
    rows = [[' '.join(['xxbos'] + [f'w{(i*j)%30}' for j in range(5 + 3*i)]), 'ab'[i%2]] for i in range(12)]
    ds = Datasets(rows, [[lambda r: r[0].split(), Numericalize(vocab=vocab)], [lambda r: r[1], Categorize]],
                  splits=[list(range(8)), list(range(8, 12))], dl_type=SortedDL)
    return ds.dataloaders(bs=4, before_batch=pad_input_chunk, num_workers=0)

@pytest.mark.parametrize('layer', [LSTMFunction.apply, _torch_lstm])
def test_layer_equals_torch(layer):
    torch.manual_seed(0)
    ref, (x, h, c) = nn.LSTM(5, 4), [torch.randn(*s, requires_grad=True) for s in ((7, 3, 5), (3, 4), (3, 4))]
    inputs = [x, h, c, *ref.parameters()]
    score = lambda o, h, c: (o**2).sum() + h.sin().sum() + (3*c).cos().sum()
    o, (h1, c1) = ref(x, (h[None], c[None]))
    o2, h2, c2 = layer(x, h, c, ref.weight_ih_l0, ref.weight_hh_l0, ref.bias_ih_l0 + ref.bias_hh_l0)
    assert largest([o, h1[0], c1[0]], [o2, h2, c2]) < 1e-6
    assert largest(torch.autograd.grad(score(o, h1, c1), inputs), torch.autograd.grad(score(o2, h2, c2), inputs)) < 1e-5

def test_layer_gradcheck():
    "Against finite differences, in float64: independent of any other engine"
    torch.manual_seed(0)
    shapes = (3, 2, 3), (2, 2), (2, 2), (8, 3), (8, 2), (8,)
    args = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(LSTMFunction.apply, args)

@pytest.mark.parametrize('bias', [True, False])
def test_linear_cross_entropy(bias):
    torch.manual_seed(0)
    h, w, b = [torch.randn(*s, requires_grad=True) for s in ((3, 5, 4), (11, 4), (11,))]
    b, t = b if bias else None, torch.randint(0, 11, (3, 5))
    inputs = [o for o in (h, w, b) if o is not None]
    ref = F.cross_entropy(F.linear(h, w, b).flatten(0, 1), t.flatten())
    for chunk in (1, 4, 512):
        ours = linear_cross_entropy(h, w, b, t, chunk)
        assert abs(ours.item() - ref.item()) < 1e-6
        assert largest(torch.autograd.grad(3*ref, inputs, retain_graph=True), torch.autograd.grad(3*ours, inputs)) < 1e-6
    with torch.no_grad(): assert abs(linear_cross_entropy(h, w, b, t, 4).item() - ref.item()) < 1e-6

def test_linear_cross_entropy_sure_and_wrong():
    "A word of vanishing probability costs its full price"
    h, w, t = torch.full((1, 1), 200.), torch.tensor([[1.], [-1.]]), torch.tensor([1])
    assert linear_cross_entropy(h, w, torch.zeros(2), t).item() == pytest.approx(400.)

@pytest.mark.parametrize('config,vocab_sz,bs', [(lm_config, 2000, 4), (small_config, 500, 8), (tiny, 33, 3)])
def test_language_model_equals_fastai(config, vocab_sz, bs):
    theirs, ours = pair(config, vocab_sz)
    assert [(k, v.shape) for k,v in ours.state_dict().items()] == [(k, v.shape) for k,v in theirs.state_dict().items()]
    x, y = torch.randint(0, vocab_sz, (2, bs, 30))
    for part in (x[:,:20], x[:,20:]):  # the second starts from the state of the first
        a, b = theirs(part), ours(part)
        assert largest(a, b) < 1e-5
    loss = lambda out: F.cross_entropy(out.flatten(0, 1), y[:,20:].flatten())
    assert largest(grads(loss(a[0]), theirs), grads(loss(b[0]), ours)) < 1e-5

def test_own_engine_in_the_whole_model(monkeypatch):
    "In float32 the model runs on torch's kernel; put ours in its place and nothing may change"
    theirs, ours = pair(lm_config, 500)
    monkeypatch.setattr(lstm, '_torch_lstm', LSTMFunction.apply)
    x = torch.randint(0, 500, (3, 12))
    a, b = theirs(x), ours(x)
    assert 'LSTMFunction' in str(ours[0](x).grad_fn.next_functions) and largest(a, b) < 1e-5
    assert largest(grads(a[0].sin().mean(), theirs), grads(b[0].sin().mean(), ours)) < 1e-5

def test_equal_seeds_equal_dropout():
    theirs, ours = pair(tiny, 33, drop_mult=1.)
    x = torch.randint(0, 33, (3, 9))
    torch.manual_seed(1); a = theirs(x)
    torch.manual_seed(1); b = ours(x)
    assert largest(a, b) < 1e-5 and largest(grads(a[0].sin().sum(), theirs), grads(b[0].sin().sum(), ours)) < 1e-4
    torch.manual_seed(2); assert largest(ours(x), b) > .01  # dropout was on

def test_equal_seeds_equal_start():
    torch.manual_seed(3); theirs = get_language_model(FastaiLSTM, 33, config=tiny)
    torch.manual_seed(3); ours = language_model(33, tiny)
    assert all(torch.equal(a, b) for a,b in zip(theirs.state_dict().values(), ours.state_dict().values()))

def test_classifier_equals_fastai():
    torch.manual_seed(0)
    a, b = [get_text_classifier(arch, 500, 2, seq_len=20, drop_mult=0., ps=[0.]) for arch in (FastaiLSTM, AWD_LSTM)]
    b.load_state_dict(a.state_dict())
    for m in (a, b): m[1].eval()  # batch norm over four rows would magnify rounding
    x = torch.randint(2, 500, (4, 60)); x[1,:20] = x[2,:40] = x[3,:40] = 1  # padded in front, in whole chunks: rows come and go
    oa, ob = a(x)[0], b(x)[0]
    assert largest([oa], [ob]) < 1e-5
    assert largest(grads(oa.sin().sum(), a), grads(ob.sin().sum(), b)) < 1e-5

def test_frozen_layers_get_no_gradient():
    m = language_model(33, tiny, 0.)
    for p in m[0].rnns[0].parameters(): p.requires_grad_(False)
    m(torch.randint(0, 33, (2, 5)))[0].sum().backward()
    assert all(p.grad is None for p in m[0].rnns[0].parameters()) and all(p.grad is not None for p in m[0].rnns[1].parameters())

def test_state_rows():
    "Rows keep their state when the batch shrinks, new rows start from zero: as in fastai"
    theirs, ours = [m.eval() for m in pair(tiny, 33)]
    for bs in (4, 2, 2, 5, 1):
        x = torch.randint(0, 33, (bs, 6))
        assert largest([theirs(x)[0]], [ours(x)[0]]) < 1e-5
    ours.reset(); theirs.reset()
    assert largest([theirs(x)[0]], [ours(x)[0]]) < 1e-5
    assert all(not s.requires_grad for hc in ours[0].hidden for s in hc)

def test_type_changes():
    "A state left by a bfloat16 step serves a float32 step, and the other way round"
    m, x = language_model(33, tiny, 0.).eval(), torch.randint(0, 33, (2, 6))
    with torch.autocast('cpu', torch.bfloat16): m(x)
    assert m(x)[0].dtype == torch.float32 and all(s.dtype == torch.float32 for hc in m[0].hidden for s in hc)
    assert m.bfloat16()(x)[0].dtype == torch.bfloat16
    assert m.float()(x)[0].dtype == torch.float32
    assert m.double()(x)[0].dtype == torch.float64

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_moves_with_the_model():
    m, x = language_model(33, tiny, 0.).eval(), torch.randint(0, 33, (2, 6))
    m(x); a = m(x)[0]; m.reset(); m(x)
    assert largest([a], [m.cuda()(x.cuda())[0].cpu()]) < 1e-4

def test_bf16_close_to_fp32():
    torch.manual_seed(0)
    m, (x, y) = language_model(500, small_config, 0.), torch.randint(0, 500, (2, 8, 30))
    def step():
        m.reset(); out = m[0](x)
        loss = linear_cross_entropy(out, m[1].decoder.weight, m[1].decoder.bias, y)
        return loss.item(), grads(loss, m)
    loss, exact = step()
    with torch.autocast('cpu', torch.bfloat16): loss16, rough = step()
    assert loss16 == pytest.approx(loss, rel=1e-3) and loss16 != loss
    assert all(g.dtype == torch.float32 for g in rough)
    assert all(F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > .98 for a,b in zip(exact, rough))

def test_copies():
    m, x = language_model(33, tiny, 0.).eval(), torch.randint(0, 33, (2, 6))
    a = m(x)[0]; m.reset()
    for o in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))): assert torch.equal(o(x)[0], a)

def test_checkpoint_round_trip(tmp_path):
    m, x = language_model(len(vocab), tiny, 0.), torch.randint(0, len(vocab), (2, 6))
    save_checkpoint(tmp_path/'ck', Checkpoint(m.state_dict(), vocab, dict(arch=tiny)))
    ck = load_checkpoint(tmp_path/'ck')
    o = language_model(len(ck.vocab), ck.config['arch'], 0.); o.load_state_dict(ck.weights)
    assert torch.equal(o(x)[0], m(x)[0]) and o[1].decoder.weight is o[0].encoder.weight

@pytest.mark.parametrize('with_opt', [True, False])
def test_reads_fastai_files(tmp_path, with_opt):
    learn = language_model_learner(lm_dls(), FastaiLSTM, config=tiny, pretrained=False, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, slice(1e-3, 1e-2))
    pth = learn.save('lm', with_opt=with_opt)
    from fastai.text.all import save_pickle
    save_pickle(tmp_path/'lm.pkl', learn.dls.vocab)
    ck = load_fastai_weights(pth, tmp_path/'lm.pkl')
    assert ck.vocab == vocab and ck.config['arch'] == tiny
    ours, x = language_model(len(ck.vocab), ck.config['arch'], 0.).eval(), torch.randint(0, len(vocab), (2, 6))
    ours.load_state_dict(ck.weights); learn.model.eval(); learn.model.reset()
    assert largest([learn.model.cpu()(x)[0]], [ours(x)[0]]) < 1e-5

def test_reads_old_names(tmp_path):
    "Files of earlier fastai versions hold the recurrent weights twice"
    _, m = pair(tiny, len(vocab))
    torch.save({**m.state_dict(), **{f'0.rnns.{i}.module.weight_hh_l0': torch.zeros(1) for i in range(3)}}, tmp_path/'lm.pth')
    with open(tmp_path/'lm.pkl', 'wb') as f: pickle.dump(vocab, f)
    m.load_state_dict(load_fastai_weights(tmp_path/'lm.pth', tmp_path/'lm.pkl').weights)

class Evil:
    def __init__(self, mark): self.mark = mark
    def __reduce__(self): return os.mkdir, (str(self.mark),)

def test_malicious_files_refused(tmp_path):
    _, m = pair(tiny, len(vocab)); mark = tmp_path/'ran'
    torch.save(m.state_dict(), tmp_path/'good.pth'); torch.save({**m.state_dict(), 'x': Evil(mark)}, tmp_path/'evil.pth')
    for name, o in dict(good=vocab, evil=[*vocab, Evil(mark)], count={'a': 1}, empty=[], numbers=[1, 2]).items():
        with open(tmp_path/f'{name}.pkl', 'wb') as f: pickle.dump(o, f)
    for pth, pkl in ('good', 'evil'), ('evil', 'good'), ('good', 'count'), ('good', 'empty'), ('good', 'numbers'), ('good', 'gone'), ('gone', 'good'):
        with pytest.raises(CourseError) as e: load_fastai_weights(tmp_path/f'{pth}.pth', tmp_path/f'{pkl}.pkl')
        assert '\n' not in str(e.value) and str(tmp_path) in str(e.value)
    assert not mark.exists()

def test_wrong_files_refused(tmp_path):
    _, m = pair(tiny, len(vocab))
    torch.save(m.state_dict(), tmp_path/'lm.pth'); torch.save(m[0].state_dict(), tmp_path/'enc.pth'); torch.save([1], tmp_path/'list.pth')
    (tmp_path/'text.pth').write_text('hello'); (tmp_path/'text.pkl').write_text('hello')
    for name, o in dict(good=vocab, short=vocab[:-1]).items():
        with open(tmp_path/f'{name}.pkl', 'wb') as f: pickle.dump(o, f)
    for pth, pkl, says in ('lm', 'short', 'do not belong'), ('enc', 'good', 'no fastai language model'), ('list', 'good', 'no fastai'), ('text', 'good', 'text.pth'), ('lm', 'text', 'text.pkl'):
        with pytest.raises(CourseError, match=says): load_fastai_weights(tmp_path/f'{pth}.pth', tmp_path/f'{pkl}.pkl')

def test_bad_settings():
    with pytest.raises(CourseError, match='bidir'): language_model(33, dict(tiny, bidir=True))
    with pytest.raises(CourseError, match='n_hidden'): language_model(33, dict(n_hidden=3))

@pytest.mark.parametrize('cbs', [[], [FusedLoss], [BF16], [FusedLoss, BF16]])
def test_fastai_language_model_learner(cbs):
    torch.manual_seed(0)
    learn = language_model_learner(lm_dls(), AWD_LSTM, config=tiny, pretrained=False, metrics=[accuracy, Perplexity()], cbs=[c() for c in cbs])
    with learn.no_bar(), learn.no_logging():
        before = learn.validate(); learn.fit(3, 2e-2); logged = learn.recorder.values[-1][1]; after = learn.validate()
    assert after[0] < before[0] - .05 and 0 <= after[1] <= 1
    assert logged == pytest.approx(after[0], rel=1e-3)   # inside of a fit in 16 bits, outside never
    assert isinstance(learn.loss_func, CrossEntropyLossFlat) and not torch.is_autocast_enabled('cpu') and 'forward' not in vars(learn.model)
    assert learn.model.train()(torch.zeros(2, 3, dtype=torch.long))[0].shape == (2, 3, len(vocab))

@pytest.mark.parametrize('metrics', [[], [Perplexity()], [accuracy, Perplexity()]])
def test_fused_training_equals_plain(metrics):
    def losses(cbs):
        set_seed(0); learn = language_model_learner(lm_dls(), AWD_LSTM, config=tiny, pretrained=False, metrics=metrics, cbs=cbs)
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-2)
        return torch.stack([torch.as_tensor(o) for o in learn.recorder.losses]), torch.tensor(learn.recorder.values)
    assert largest(losses([]), losses([FusedLoss()])) < 1e-4

def test_fused_validation_makes_no_logits():
    widths = set()
    class Look(Callback):
        order = 50
        def after_pred(self):
            if not self.training: widths.add(self.pred.shape[-1])
    for metrics in ([Perplexity()], [accuracy]):
        learn = language_model_learner(lm_dls(), AWD_LSTM, config=tiny, pretrained=False, metrics=metrics, cbs=[FusedLoss(), Look()])
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert widths == {tiny['emb_sz'], len(vocab)}

@pytest.mark.parametrize('training', [True, False])
def test_fused_after_interrupt(training):
    "A fit that was stopped, in training or in validation, leaves a learner that predicts and trains"
    class Stop(Callback):
        def after_loss(self):
            if self.training == training: raise KeyboardInterrupt
    learn = language_model_learner(lm_dls(), AWD_LSTM, config=tiny, pretrained=False)
    with learn.no_bar(), learn.no_logging():
        with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[FusedLoss(), BF16(), Stop()])
        assert not torch.is_autocast_enabled('cpu')
        assert learn.model.eval()(torch.zeros(2, 3, dtype=torch.long))[0].shape == (2, 3, len(vocab))
        assert learn.validate()[0] > 0
        learn.fit(1, cbs=[FusedLoss()])
    assert isinstance(learn.loss_func, CrossEntropyLossFlat)

def test_fused_refuses_other_losses():
    learn = language_model_learner(lm_dls(), AWD_LSTM, config=tiny, pretrained=False)
    learn.loss_func = CrossEntropyLossFlat(label_smoothing=.1)
    with learn.no_bar(), learn.no_logging(), pytest.raises(CourseError, match='plain'): learn.fit(1, cbs=FusedLoss())

def test_fastai_text_classifier_learner():
    torch.manual_seed(0)
    config = {k: v for k,v in tiny.items() if k not in ('tie_weights', 'out_bias')}
    learn = text_classifier_learner(clas_dls(), AWD_LSTM, config=config, pretrained=False, seq_len=10, metrics=accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.freeze_to(-2); learn.fit(1, 1e-2); learn.unfreeze(); learn.fit(1, slice(1e-3, 1e-2))
        assert learn.get_preds()[0].shape == (4, 2)

def test_fastai_encoder_goes_to_our_classifier(tmp_path):
    lm = language_model_learner(lm_dls(), FastaiLSTM, config=tiny, pretrained=False, path=tmp_path); lm.save_encoder('enc')
    config = {k: v for k,v in tiny.items() if k not in ('tie_weights', 'out_bias')}
    learn = text_classifier_learner(clas_dls(), AWD_LSTM, config=config, pretrained=False, path=tmp_path).load_encoder('enc')
    assert torch.equal(learn.model[0].module.encoder.weight, lm.model[0].encoder.weight)

def test_bf16_is_asked():
    assert isinstance(bf16_available(), bool) and isinstance(bf16_available('cpu'), bool)
    assert bf16_available('cuda') in ([False] if not torch.cuda.is_available() else [True, False])

@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another C library')
def test_memory_stays_until_training_ends():
    "In a fresh process, whose heap holds nothing yet"
    code = """
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage
import torch
from ulmfit_course.training import keep_memory

def resident_mb(): return int(Path('/proc/self/statm').read_text().split()[1])*getpagesize()/2**20
def new_pages():
    before = getrusage(RUSAGE_SELF).ru_minflt
    for _ in range(20): torch.ones(2**24)   # 64 MB: 16,384 pages of 4 KB
    return getrusage(RUSAGE_SELF).ru_minflt - before

for interrupted in (False, True):
    given_back = new_pages()
    try:
        with keep_memory():
            new_pages()   # the heap takes its shape
            kept, at_end = new_pages(), resident_mb()
            if interrupted: raise KeyboardInterrupt
    except KeyboardInterrupt: pass
    assert kept < given_back/4, (kept, given_back)
    assert resident_mb() < at_end - 50, (resident_mb(), at_end)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

def test_a_sample_of_the_words_gives_the_sum_over_all_on_average():
    "`exp(loss)` is the softmax's denominator over the target's own share; the sample must not bias it, and sends gradient to what was drawn alone"
    torch.manual_seed(0)
    counts = 1000/torch.arange(1, 401)
    h, w, b, targ = torch.randn(1, 8), torch.randn(400, 8, requires_grad=True), counts.log(), torch.tensor([350])
    chance = sampling_chances(counts, 60)
    assert chance.sum() == pytest.approx(60, rel=1e-4) and chance.max() == 1 and (chance.diff() <= 0).all()
    draws = torch.stack([sampled_cross_entropy(h, w, b, targ, chance, torch.float32) for _ in range(3000)])
    exact = linear_cross_entropy(h, w, b, targ, dtype=torch.float32)
    assert draws.exp().mean().item() == pytest.approx(exact.exp().item(), rel=.03)
    draws[0].backward()
    touched = w.grad.abs().sum(1) > 0
    assert touched[350] and 30 < touched.sum() < 90
    assert sampled_cross_entropy(h, w, b, targ, torch.ones(400), torch.float32).item() == pytest.approx(exact.item(), abs=1e-5)
