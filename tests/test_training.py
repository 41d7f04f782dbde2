"A fit leaves nothing behind, however it ends: loss, forward pass, decoder and memory are as before, and the next fit works"
import pickle
import numpy as np, pandas as pd, pytest, torch
from fastai.callback.core import Callback
from fastai.callback.rnn import rnn_cbs
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import Perplexity, accuracy
from ulmfit_course import training
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.learners import language_model_learner, text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import Checkpoint
from ulmfit_course.recipes import LMRecipe
from ulmfit_course.streams import TokenStream
from ulmfit_course.training import (BF16, FastLearner, FusedLoss, SampledLoss, bf16_available, fit_epochs, keep_memory, lm_fit_learner, silent, weights_hash,
    word_counts)

words = ['xxunk', 'xxpad', 'xxbos', *(f'w{i}' for i in range(40))]
sizes = dict(emb_sz=10, n_hid=12, n_layers=2)

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

def stream(n=600, seed=0): return TokenStream(np.random.default_rng(seed).integers(3, len(words), n).astype(np.uint16), words)

def dls(): return lm_dataloaders(stream(), stream(200, 1), bs=4, seq_len=12, device='cpu')

def checkpoint():
    set_seed(0)
    return Checkpoint(language_model(len(words), sizes).state_dict(), words, dict(arch=sizes, stage='pretraining', direction='fwd'))

def plain(cbs=(), metrics=()):
    "The learner that stages 1 and 2 train"
    set_seed(0)
    return FastLearner(dls(), language_model(len(words), sizes), loss_func=CrossEntropyLossFlat(), metrics=list(metrics), cbs=[*rnn_cbs(), *cbs])

def of_lesson_06(**kw): return language_model_learner(dls(), checkpoint(), **kw)

def of_lesson_08():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame([dict(text=' '.join(f'w{i}' for i in rng.integers(0, 40, 12)), label='ab'[k%2]) for k in range(24)])
    return text_classifier_learner(classifier_dataloaders(rows, rows[:8], words, bs=4, device='cpu'), checkpoint(), verbose=False)

class Stop(Callback):
    "Ctrl-C at an event of the fit"
    order = 80
    def __init__(self, event, training=True):
        def stop():
            if getattr(self, 'training', True) == training: raise KeyboardInterrupt
        setattr(self, event, stop)

def state(learn): return learn.loss_func, type(learn.model[1]), 'forward' in vars(learn.model), getattr(learn.model[1], 'fused', None), sorted(set(learn.cbs.attrgot('name')) - {'progress'}), torch.is_autocast_enabled('cpu')

def used(learn):
    "Predict, judge and train: all that a learner does"
    x, y = learn.dls.valid.one_batch()
    out = learn.model.eval()(x)[0]
    assert out.shape[-1] == (len(words) if out.dim() == 3 else 2) and out.dtype == torch.float32
    before = learn.validate()[0]
    assert before == pytest.approx(CrossEntropyLossFlat()(*logits_of(learn)).item(), rel=1e-3)
    learn.fit(3, 2e-2)
    assert len(learn.recorder.losses) == 3*len(learn.dls.train)
    assert learn.validate()[0] < before + 0.5

def logits_of(learn):
    learn.model.eval(); getattr(learn.model, 'reset', lambda: None)()
    with torch.no_grad(): pairs = [(learn.model(x)[0].flatten(0, -2), y.flatten()) for x,y in learn.dls.valid]
    return tuple(torch.cat(o) for o in zip(*pairs))

events = [('before_batch', True), ('after_pred', True), ('after_loss', True), ('before_backward', True), ('after_batch', True), ('after_train', True),
          ('after_pred', False), ('after_loss', False), ('after_epoch', False)]

@pytest.mark.parametrize('event,in_training', events)
@pytest.mark.parametrize('make', [
    lambda: plain([FusedLoss(), BF16()]), lambda: plain([SampledLoss(word_counts(stream()), 5), BF16()], [accuracy]), lambda: of_lesson_06(num_sampled=5, cbs=[BF16()]*(not bf16_available())), of_lesson_08],
    ids=['fused', 'sampled', 'lesson 06', 'lesson 08'])
def test_after_ctrl_c_a_learner_is_as_before(make, event, in_training):
    learn = make()
    before = state(learn)
    with silent(learn):
        with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[Stop(event, in_training)])
        assert state(learn)[0] is before[0] and state(learn)[1:] == before[1:] and not getattr(learn, 'stop', None)
        used(learn)
    assert state(learn)[0] is before[0] and state(learn)[1:] == before[1:]

@pytest.mark.parametrize('cbs', [lambda: [FusedLoss(), BF16()], lambda: [SampledLoss(word_counts(stream()), 5)]])
def test_callbacks_of_one_fit_leave_nothing_either(cbs):
    learn = plain()
    before = state(learn)
    with silent(learn):
        with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[*cbs(), Stop('after_loss')])
        assert state(learn) == before
        learn.fit(1, cbs=cbs())
        assert state(learn) == before
        used(learn)

def test_another_loss_for_one_fit():
    "A sample for one fit, in a learner that has the fused loss: each gives back what it took"
    learn = plain([FusedLoss()])
    before, loss = state(learn), learn.loss_func
    with silent(learn):
        learn.fit(1, cbs=[SampledLoss(word_counts(stream()), 5)])
        with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[SampledLoss(word_counts(stream()), 5), Stop('after_loss')])
        assert state(learn) == before and learn.loss_func is loss
        used(learn)

def test_an_error_in_a_batch_is_as_harmless():
    class Broken(Callback):
        def after_pred(self): raise RuntimeError('broken')
    learn = plain([FusedLoss(), BF16()], [Perplexity()])
    before = state(learn)
    with silent(learn):
        with pytest.raises(RuntimeError): learn.fit(1, cbs=[Broken()])
        assert state(learn) == before
        used(learn)

# A training that goes on

def run(folder, epochs=2, *cbs):
    set_seed(0)
    recipe = LMRecipe(epochs=epochs, bs=4, seq_len=12)
    learn = lm_fit_learner(stream(), stream(200, 1), language_model(len(words), sizes), recipe, cbs=cbs)
    fit = lambda learn, done: learn.fit(epochs, 1e-3, start_epoch=done)
    return fit_epochs(learn, folder, recipe, fit, bar=False)

class StopAfter(Callback):
    order = 100
    def after_epoch(self): raise KeyboardInterrupt

@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp('t')
    with pytest.raises(KeyboardInterrupt): run(folder, 2, StopAfter())
    return folder/'training.pth'

def refused(file, says='training.pth'):
    with pytest.raises(CourseError, match=says) as e: run(file.parent)
    assert '\n' not in str(e.value) and str(file) in str(e.value) and str(e.value).endswith('delete it to start anew, or choose another folder')

@pytest.fixture
def file(stopped, tmp_path):
    (tmp_path/'training.pth').write_bytes(stopped.read_bytes())
    return tmp_path/'training.pth'

def test_it_goes_on(file, tmp_path):
    whole, again = run(tmp_path/'whole'), run(file.parent)
    assert weights_hash(whole.model) == weights_hash(again.model) and [o['valid_loss'] for o in whole.curve] == [o['valid_loss'] for o in again.curve]

@pytest.mark.parametrize('content', [lambda raw: b'', lambda raw: raw[:100], lambda raw: raw[:len(raw)//2], lambda raw: raw[:-3], lambda raw: b'a text', lambda raw: bytes(b ^ (i%499 == 498) for i,b in enumerate(raw)), lambda raw: pickle.dumps(dict(a=1)), lambda raw: pickle.dumps(print)])
def test_a_file_that_is_broken(file, content):
    file.write_bytes(content(file.read_bytes()))
    refused(file, 'broken')

def test_a_folder_of_its_name(file):
    file.unlink(); file.mkdir()
    refused(file)

def test_a_file_that_is_too_large(file):
    "It is not read"
    with open(file, 'r+b') as f: f.truncate(2**33)
    refused(file, 'larger than a training of this network')

def moments(state, **kw): return state | dict(opt=state['opt'] | dict(state=state['opt']['state'] | {0: state['opt']['state'][0] | kw}))

@pytest.mark.parametrize('other,says', [
    (lambda s: 3, 'it is 3'), (lambda s: s['model'], "no 'fingerprint'"), (lambda s: {k: v for k,v in s.items() if k != 'opt'}, "no 'opt'"), (lambda s: s | dict(fingerprint='x'), 'other text'), (lambda s: s | dict(fingerprint=torch.zeros(3)), 'fingerprint is'),
    (lambda s: s | dict(epoch='1'), 'epoch is'), (lambda s: s | dict(epoch=10**9), '1 epochs, not'), (lambda s: s | dict(curve=[]), 'curve'), (lambda s: s | dict(curve=[3]), 'curve'), (lambda s: s | dict(curve=[dict(s['curve'][0], seconds=None)]), 'curve'),
    (lambda s: s | dict(rng=torch.zeros(3, dtype=torch.uint8)), 'random'), (lambda s: s | dict(rng=3), 'rng is 3'), (lambda s: s | dict(rng=torch.zeros(5056)), 'random'), (lambda s: s | dict(cuda_rng=3), 'cuda_rng'),
    (lambda s: s | dict(model={}), '0.encoder.weight is nothing'), (lambda s: s | dict(model=s['model'] | {'1.decoder.bias': torch.zeros(3)}), '1.decoder.bias is 3 where 43 belongs'), (lambda s: s | dict(model=s['model'] | {'1.decoder.bias': torch.full((43,), torch.nan)}), '1.decoder.bias holds nan'),
    (lambda s: s | dict(opt=[]), 'opt is'), (lambda s: s | dict(opt=dict(state=[])), 'opt.state is'), (lambda s: moments(s, exp_avg=torch.zeros(3)), 'opt.0.exp_avg is 3 where'), (lambda s: moments(s, exp_avg=torch.zeros(1).expand(10**12)), 'is broken'), (lambda s: moments(s, exp_avg='x'), 'no plain tensor'),
    (lambda s: moments(s, exp_avg_sq=-s['opt']['state'][0]['exp_avg_sq']-1), 'negative'), (lambda s: moments(s, exp_avg=s['opt']['state'][0]['exp_avg']/0), 'holds nan'), (lambda s: s | dict(opt=dict(state={99: s['opt']['state'][0]})), 'opt.99'), (lambda s: s | dict(opt=dict(state={0: 3})), 'it is 3'),
    (lambda s: moments(s, step=torch.tensor(-1.)), 'step is negative'), (lambda s: moments(s, step=torch.zeros(3)), 'step is 3')])
def test_what_is_no_training(file, other, says):
    torch.save(other(torch.load(file)), file)
    refused(file, says)

class Libc:
    "Notes what is asked of the allocator"
    def __init__(self): self.asked = []
    def mallopt(self, what, value): self.asked.append((what, value))
    def malloc_trim(self, pad): self.asked.append('trim')

kept, given_back = [(-4, 0), (-1, -1)], [(-4, 2**16), (-1, 2**26), 'trim']

@pytest.mark.parametrize('error', [None, KeyboardInterrupt, MemoryError])
def test_the_allocators_settings_are_given_back(monkeypatch, error):
    libc = Libc()
    monkeypatch.setattr(training.ctypes, 'CDLL', lambda name: libc)
    try:
        with keep_memory():
            assert libc.asked == kept
            if error: raise error
    except (KeyboardInterrupt, MemoryError) as e: assert type(e) is error
    assert libc.asked == kept + given_back

@pytest.mark.parametrize('make', [plain, of_lesson_06, of_lesson_08], ids=['plain', 'lesson 06', 'lesson 08'])
def test_every_fit_keeps_memory_and_gives_it_back(monkeypatch, make):
    learn, libc = make(), Libc()
    monkeypatch.setattr(training.ctypes, 'CDLL', lambda name: libc)
    with silent(learn):
        learn.fit(1)
        assert libc.asked == kept + given_back
        with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[Stop('after_loss')])
    assert libc.asked == 2*(kept + given_back)

def test_without_glibc_a_fit_is_a_fit(monkeypatch):
    def none(name): raise OSError(name)
    monkeypatch.setattr(training.ctypes, 'CDLL', none)
    learn = plain([FusedLoss()])
    with silent(learn): learn.fit(1)
    assert len(learn.recorder.losses) == len(learn.dls.train)
