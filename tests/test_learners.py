"What a user of fastai does with a learner: the same calls before and after a fit, for classifiers and for language models"
import copy, inspect, io, os, pickle, re, threading
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile
import matplotlib
matplotlib.use('agg')
import numpy as np, pandas as pd, pytest, torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.progress import CSVLogger
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner
from fastai.losses import CrossEntropyLossFlat, FocalLossFlat, LabelSmoothingCrossEntropyFlat
from fastai.metrics import F1Score, Perplexity, accuracy
from fastai.optimizer import Adam, OptimWrapper, ranger
from fastai.text.data import TextDataLoaders
from fastai.text.models.core import get_language_model
from fastai.text.models.awdlstm import AWD_LSTM as fastais_awd_lstm, awd_lstm_clas_config, awd_lstm_lm_config
from fastcore.xtras import save_pickle
from ulmfit_course.awd_lstm import AWD_LSTM
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.evaluation import predictions
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import ClassifierLearner, LMLearner, language_model_learner, text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import load_pretrained
from ulmfit_course.streams import TokenStream
from ulmfit_course.training import BF16, FastFit, FastLearner
from test_classifier import checkpoint, frame, sizes, words

torch.set_num_threads(1)
train, valid, text = frame(32), frame(16, 1), 'the film was great fun and lovely .'

@pytest.fixture(scope='module')
def stream(tmp_path_factory): return TokenStream.build(list(frame(60, 2).text), tmp_path_factory.mktemp('t')/'stream', vocab=words, n_procs=1)

@pytest.fixture
def make(stream, tmp_path):
    "A learner of either kind, which writes into `tmp_path`"
    def made(kind, model=None, **kw):
        same = dict(verbose=False, path=tmp_path) | kw
        if kind == 'clas': return text_classifier_learner(classifier_dataloaders(train, valid, words, bs=8, device='cpu'), model or checkpoint(), **same)
        return language_model_learner(lm_dataloaders(stream, stream[:400], bs=4, seq_len=20, device='cpu'), model or checkpoint(), **same)
    return made

def fitted(learn, n=1, lr=1e-3, **kw):
    with learn.no_bar(), learn.no_logging(), redirect_stdout(io.StringIO()): learn.fit_one_cycle(n, lr, **kw)
    return learn

@pytest.fixture(params=['before', 'after'])
def when(request): return request.param

both = pytest.mark.parametrize('kind', ['clas', 'lm'])

@pytest.fixture
def learn(make, kind, when):
    "A learner before and after a fit"
    set_seed(0)
    return fitted(make(kind)) if when == 'after' else make(kind)

def weights(learn): return torch.cat([o.detach().flatten() for o in learn.model.parameters()])
def told(call, *says):
    with pytest.raises(CourseError) as e: call()
    assert '\n' not in str(e.value) and all(s in str(e.value) for s in says), str(e.value)

# The arguments of fastai's learners

@both
def test_metrics_callbacks_and_optimizer_go_through(make, kind):
    own = [accuracy, Perplexity()] if kind == 'lm' else [accuracy, F1Score()]
    learn = fitted(make(kind, metrics=own, cbs=[GradientAccumulation(8), CSVLogger()], opt_func=partial(Adam, mom=.9), lr=1e-2, moms=(.9, .8, .9), wd=.1, wd_bn_bias=True, train_bn=False))
    assert [m.name for m in learn.metrics] == [m.name for m in make(kind, metrics=own).metrics] and len(learn.metrics) == 2
    assert type(learn.opt).__name__ == 'Optimizer' and learn.opt.hypers[0]['wd'] == .1 and learn.moms == (.9, .8, .9)
    assert len(learn.csv_logger.read_log()) == 1 and 'gradient_accumulation' in dir(learn)
    assert len(make(kind, metrics=accuracy).metrics) == 1 and type(make(kind).opt_func).__name__ == 'partial'
    for opt in (ranger, partial(OptimWrapper, opt=torch.optim.SGD)): assert fitted(make(kind, opt_func=opt)).recorder.losses

@both
def test_a_loss_with_weights_goes_through(make, kind):
    n = len(words) if kind == 'lm' else 2
    heavy = torch.ones(n).index_fill_(0, torch.tensor(1), 3.)
    for loss in (CrossEntropyLossFlat(weight=heavy), LabelSmoothingCrossEntropyFlat(), FocalLossFlat()):
        learn = make(kind, loss_func=loss)
        assert learn.loss_func is loss
        assert np.isfinite(fitted(learn).recorder.losses[-1].item()) and learn.loss_func is loss

def test_class_weights_move_the_answer(make):
    set_seed(0); plain = fitted(make('clas'), 3, 1e-2)
    set_seed(0); heavy = fitted(make('clas', loss_func=CrossEntropyLossFlat(weight=torch.tensor([1., 9.]))), 3, 1e-2)
    assert predictions(heavy)[0][:, 1].mean() > predictions(plain)[0][:, 1].mean() + .05

@pytest.mark.parametrize('arch', [AWD_LSTM, fastais_awd_lstm])
@both
def test_an_architecture_stands_for_the_default_model(stream, tmp_path, kind, arch):
    "As in every fastai tutorial; with `pretrained=False` for random weights"
    dls = classifier_dataloaders(train, valid, words, bs=8, device='cpu') if kind == 'clas' else lm_dataloaders(stream, stream, bs=4, seq_len=20, device='cpu')
    build = text_classifier_learner if kind == 'clas' else language_model_learner
    encoder = lambda learn: learn.model[0].module if kind == 'clas' else learn.model[0]
    wiki, learn = load_pretrained('wiki-small'), build(dls, arch, drop_mult=.5, verbose=False, path=tmp_path)
    assert torch.equal(encoder(learn).encoder.weight[words.index('film')], wiki.weights['0.encoder.weight'][wiki.vocab.index('film')])
    config = {**(awd_lstm_clas_config if kind == 'clas' else awd_lstm_lm_config), **sizes}
    assert encoder(build(dls, arch, config=config, pretrained=False, path=tmp_path)).encoder.weight.shape == (len(words), sizes['emb_sz'])
    told(lambda: build(dls, torch.nn.LSTM), 'LSTM is no architecture of the course', 'AWD_LSTM')

@pytest.mark.parametrize('kind, kw, says', [('clas', dict(n_out=2), 'labels of the loaders'), ('clas', dict(ps=[.1, .2]), 'drop_mult'), ('clas', dict(y_range=(0, 1)), 'classes'),
    ('clas', dict(lin_ftrs=[40, 20]), 'one number'), ('lm', dict(pretrained_fnames=['a', 'b']), 'load_fastai_weights'), ('lm', dict(metric=accuracy), 'metric is no argument'), ('clas', dict(arch=AWD_LSTM), 'second argument')])
def test_an_argument_that_is_none_of_ours_is_named(make, kind, kw, says): told(lambda: make(kind, **kw), says)

def test_fastais_other_arguments(make):
    learn = make('clas', lin_ftrs=[20], seq_len=30, splitter=lambda m: [list(m.parameters())], model_dir='kept')
    assert learn.model[1].layers[0][2].out_features == 20 and learn.model[0].bptt == 30 and len(learn.splitter(learn.model)) == 1
    assert learn.checkpoint().config['head'] == dict(lin_ftrs=20, bptt=30, max_len=1440)
    assert learn.save('w').parent.name == 'kept'

@both
def test_precision_calls(make, kind):
    learn = make(kind).to_fp16()
    assert np.isfinite(fitted(learn).recorder.losses[-1].item()) and not any(isinstance(cb, MixedPrecision) for cb in learn.to_fp32().cbs)

# Other texts: test_dl

@pytest.mark.parametrize('kind', ['clas'])
def test_test_dl_takes_what_a_user_has(learn):
    df = frame(9, 5).sample(frac=1, random_state=1)   # an index of its own
    want = predictions(learn, learn.dls.test_dl(list(df.text)))[0]
    assert want.shape == (8, 2) and np.ptp(want[:, 0]) > 0
    for items in (df, df[['text']], df.text, df.text.values, tuple(df.text), df.text.iloc[::-1].iloc[::-1], (t for t in df.text)):
        probs, y = predictions(learn, learn.dls.test_dl(items))
        assert y is None and np.array_equal(probs, want), type(items)
    assert np.allclose(predictions(learn, learn.dls.test_dl(df.text.iloc[::-1]))[0][::-1], want, atol=1e-6)
    y = [learn.labels.index(l) for l in df.label]
    for items in (df, list(zip(df.text, df.label)), df[['label', 'text']]):
        probs, found = predictions(learn, learn.dls.test_dl(items, with_labels=True))
        assert np.array_equal(probs, want) and found.tolist() == y
    dl = learn.dls.test_dl(df, with_labels=True, bs=3)
    with learn.no_bar(): loss, acc = learn.validate(dl=dl)
    assert acc == pytest.approx((want.argmax(1) == y).mean()) and loss == pytest.approx(-np.log(want[range(8), y]).mean(), abs=1e-2)
    assert predictions(learn, learn.dls.test_dl(df.iloc[:1]))[0].shape == (1, 2)

@pytest.mark.parametrize('items, with_labels, says', [
    (valid.text.where(valid.index != 3), False, ['text 3 is not a string but float']), (valid.rename(columns=dict(text='review')), False, ["no column 'text'", "'review'"]),
    (valid[['text']], True, ["no column 'label'"]), ([1, 2], False, ['text 0 is not a string but int']), ('a film', False, ['one string']),
    (list(valid.text), True, ['pairs of text and label']), (valid.assign(label='odd'), True, ["label 'odd' was not seen in training", 'neg, pos'])])
def test_test_dl_names_what_is_no_text(make, items, with_labels, says): told(lambda: make('clas').dls.test_dl(items, with_labels=with_labels), *says)

def test_several_columns_stay_several(tmp_path):
    "A learner of two columns never takes one of them for the whole text"
    df = pd.DataFrame(dict(title=['great', 'awful']*12, review=[f'the film number {i}' for i in range(24)], stars=['pos', 'neg']*12))
    learn = train_classifier(df, None, checkpoint(), text_cols=['title', 'review'], label_col='stars', epochs=(1, 0, 0, 0), bs=8, max_unknown=1)
    want = predictions(learn, learn.dls.test_dl(df))[0]
    assert np.allclose(load_bundle(save_bundle(learn, tmp_path/'b')).probabilities(df), want, atol=1e-5)
    joined = [f'xxfld 1 {t} xxfld 2 {r}' for t,r in zip(df.title, df.review)]
    for items in (joined, list(zip(df.title, df.review)), pd.DataFrame(dict(text=joined))): assert np.array_equal(predictions(learn, learn.dls.test_dl(items))[0], want)
    assert predictions(learn, learn.dls.test_dl(df, with_labels=True))[1].tolist() == [1, 0]*12
    assert torch.allclose(learn.predict(joined[0])[2], torch.from_numpy(want[0]), atol=1e-5) and learn.predict(('great', 'the film number 0'))[0] == learn.predict(joined[0])[0]
    for call in (lambda: learn.dls.test_dl(list(df.review)), lambda: learn.dls.test_dl(df.review), lambda: learn.predict('great')): told(call, 'trained on the columns title, review')
    told(lambda: learn.dls.test_dl(df[['title']]), 'no column')

# A learner in a file

@both
def test_export_holds_no_text_and_keeps_the_learner(learn, kind, tmp_path):
    secrets = list(train.text) + list(valid.text) + list(frame(60, 2).text)
    n = len(learn.dls.train), len(learn.dls.valid)
    before = weights(learn)
    for name in ('export.pkl', 'deep/other.pkl'):
        learn.export(*[name]*(name != 'export.pkl'))
        raw = (tmp_path/name).read_bytes()
        assert not [t for t in secrets if t.encode() in raw] and not [p for p in (tmp_path/name).parent.iterdir() if p.name.endswith('.tmp')]
    assert (len(learn.dls.train), len(learn.dls.valid)) == n and torch.equal(weights(learn), before)
    fitted(learn)   # it goes on
    with learn.no_bar(): assert np.isfinite(float(learn.validate()[0]))

def test_the_longest_run_of_ids_is_not_inside_either(make, stream, tmp_path):
    "Nor the texts as token ids"
    learn = fitted(make('lm'))
    learn.export('x.pkl')
    raw, ids = (tmp_path/'x.pkl').read_bytes(), np.asarray(stream.ids[:200])
    assert not any(ids.astype(d).tobytes() in raw for d in (np.uint16, np.int32, np.int64))

@both
def test_a_loaded_learner_answers_as_before(learn, kind, tmp_path):
    learn.export('x.pkl')
    loaded = load_learner(tmp_path/'x.pkl')
    assert torch.equal(weights(loaded), weights(learn)) and loaded.config == learn.config
    if kind == 'lm': return check_loaded_lm(loaded, learn)
    label, index, probs = loaded.predict(text)
    assert (label, int(index)) == (learn.predict(text)[0], int(learn.predict(text)[1])) and torch.allclose(probs, learn.predict(text)[2], atol=1e-6)
    assert np.allclose(predictions(loaded, loaded.dls.test_dl(valid))[0], predictions(learn, learn.dls.test_dl(valid))[0], atol=1e-6)
    assert np.allclose(load_bundle(save_bundle(loaded, tmp_path/'b')).probabilities([text]), probs, atol=1e-5)
    told(lambda: loaded.predict(None), 'must be a string')

def check_loaded_lm(loaded, learn):
    said = loaded.predict('the film', 8, temperature=0.)
    assert said == learn.predict('the film', 8, temperature=0.) and said.startswith('The film'.lower()) or said.startswith('The film')

@both
def test_export_that_fails_leaves_all_as_it_was(learn, kind, tmp_path):
    "What cannot be pickled is told, nothing is left behind, and the learner keeps its data"
    odd = Callback()
    odd.cannot, n = threading.Lock(), len(learn.dls.train)
    learn.add_cb(odd)
    with pytest.raises(TypeError, match='pickle'): learn.export('x.pkl')
    assert not list(tmp_path.glob('*x.pkl*')) and len(learn.dls.train) == n
    learn.remove_cb(odd)
    fitted(learn).export('x.pkl')

@both
def test_a_copy_is_a_learner_of_its_own(learn, kind):
    other, before = copy.deepcopy(learn), weights(learn)
    assert type(other) is type(learn) and torch.equal(weights(other), before) and other.config == learn.config
    fitted(other, lr=1e-2)
    assert torch.equal(weights(learn), before) and not torch.equal(weights(other), before)
    assert len(other.dls.train) == len(learn.dls.train) and str(other.path) == str(learn.path)

@both
def test_save_and_load(learn, kind, tmp_path):
    before = weights(learn)
    path = learn.save('stage')
    assert path == tmp_path/'models'/'stage.pth' and path.is_file()
    fitted(learn, lr=1e-2)
    assert not torch.equal(weights(learn), before)
    assert learn.load('stage') is learn and torch.equal(weights(learn), before)
    with_opt = fitted(learn).save('opt', with_opt=True)
    assert with_opt.is_file() and learn.load('opt', with_opt=True) is learn

def averages(learn):
    "What an optimizer remembers of the gradients"
    state = learn.opt.state_dict()['state']
    return torch.cat([v.detach().flatten().float().cpu() for s in (state.values() if isinstance(state, dict) else state) for v in s.values() if torch.is_tensor(v)])

@pytest.mark.parametrize('opt_func', [None, Adam, ranger, partial(OptimWrapper, opt=torch.optim.SGD, momentum=.9)])
@both
def test_the_optimizer_comes_back_too(make, kind, opt_func, recwarn):
    learn = fitted(make(kind, **dict(opt_func=opt_func) if opt_func else {}))
    mean, before = averages(learn).clone(), weights(learn)
    learn.save('opt')
    fitted(learn)
    assert not torch.equal(averages(learn), mean)
    learn.load('opt')
    assert torch.equal(averages(learn), mean) and torch.equal(weights(learn), before) and not [w for w in recwarn if 'optimizer' in str(w.message)]
    other = make(kind, **dict(opt_func=opt_func) if opt_func else {}).load('opt')
    assert torch.equal(averages(other), mean) and torch.equal(weights(other), before)
    fitted(other)

# Files of somebody else

class Evil:
    "A pickle that makes a folder when it is opened"
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)

def readers(cls):
    "The methods by which a learner of fastai's reads a file"
    theirs = {n: f for base in cls.__mro__ if base.__module__.startswith('fastai') for n,f in vars(base).items() if inspect.isfunction(f)}
    return sorted(n for n,f in theirs.items() if re.search(r'torch\.load|load_model|load_learner|load_pickle|pickle\.load', inspect.getsource(f)))

calls = dict(load=[lambda learn, f: learn.load(f, check=False), lambda learn, f: learn.load(f, check=False, weights_only=False), lambda learn, f: FastFit.load(learn, f, pickle_module=pickle)],
             load_encoder=[lambda learn, f: learn.load_encoder(f), lambda learn, f: learn.load_encoder(f'{f}.pth')], load_pretrained=[lambda learn, f: learn.load_pretrained(f'{f}.pth', f'{f}.pkl')])

def test_the_readers_are_ours():
    for cls in (LMLearner, ClassifierLearner, FastLearner):
        assert readers(cls) == (['load'] if cls is FastLearner else sorted(calls))
        for n in readers(cls): assert inspect.getmodule(getattr(cls, n)).__name__.startswith('ulmfit_course'), n

@pytest.mark.parametrize('reader', calls)
@both
def test_a_reader_runs_nothing(make, kind, reader, tmp_path):
    learn, bad, ran = make(kind), tmp_path/'bad', tmp_path/'ran'
    before = weights(learn)
    good = {k: v for k,v in learn.model.state_dict().items()}
    for content in (Evil(ran), dict(model=Evil(ran)), good | dict(more=Evil(ran)), dict(model=good, opt=Evil(ran)), [Evil(ran)]):
        for write in (torch.save, partial(torch.save, _use_new_zipfile_serialization=False), lambda o, f: f.write_bytes(pickle.dumps(o))):
            for end in ('.pth', '.pkl', ''): write(content, bad.with_suffix(end))
            for call in calls[reader]:
                told(partial(call, learn, bad), 'bad')
                assert not ran.exists() and torch.equal(weights(learn), before)
    pickle.loads(bad.read_bytes())   # it is a working pickle
    assert ran.exists()

@both
def test_what_does_not_load_changes_nothing(make, kind, tmp_path):
    learn = make(kind)
    before, state = weights(learn), learn.model.state_dict()
    first, last = list(state)[0], list(state)[-1]
    for content, says in ((state | {last: torch.zeros(3)}, last), ({k: v for k,v in state.items() if k != last}, f'{last} is nothing'), (state | dict(more=torch.zeros(1)), 'more is 1'), (state | {last: 'text'}, 'no plain tensor'),
                          ([1], 'model is'), (3, 'model is'), (torch.zeros(3), 'model is'), ({first: torch.zeros(1).expand(10**12)}, 'is broken'), (dict(model=state, opt=[[torch.zeros(1).expand(10**12)]]), 'is broken')):
        torch.save(content, tmp_path/'bad.pth')
        told(partial(learn.load, tmp_path/'bad', check=False), 'bad.pth', says, 'save it again')
        assert torch.equal(weights(learn), before)
    told(lambda: learn.load(tmp_path/'none', check=False), 'none.pth is missing')
    raw = learn.save(tmp_path/'good').read_bytes()
    for broken in (b'', raw[:len(raw)//2], raw[:len(raw)//2] + b'!' + raw[len(raw)//2+1:], b'a text', b'PK'):
        (tmp_path/'good.pth').write_bytes(broken)
        told(lambda: learn.load(tmp_path/'good'), 'good.pth is broken')
    (tmp_path/'good.pth').write_bytes(raw)
    for broken in ('', '[', '['*99_999):
        (tmp_path/'good.json').write_text(broken)
        told(lambda: learn.load(tmp_path/'good'), 'good.json is broken')
    assert torch.equal(weights(learn), before)
    learn.load(tmp_path/'good', check=False)
    torch.save({k: v for k,v in state.items() if k != last}, tmp_path/'bad.pth')
    learn.load(tmp_path/'bad', check=False, strict=False)

def test_a_packed_archive_is_not_unpacked(make, tmp_path):
    "Else a small file would take all of the memory"
    learn = make('clas')
    path = learn.save('w')
    with ZipFile(path) as z: entries = {o.filename: z.read(o) for o in z.infolist()}
    with ZipFile(path, 'w', ZIP_DEFLATED) as z:
        for name, raw in entries.items(): z.writestr(name, raw)
    told(lambda: learn.load('w'), 'w.pth is broken')

def test_an_encoder_of_the_language_model_itself(make, stream):
    "fastai's call on a language model: the encoder comes back, and what is tied to it"
    learn = fitted(make('lm'), lr=1e-2)
    learn.save_encoder('enc')
    other = make('lm').load_encoder('enc', verbose=False)
    assert torch.equal(other.model[0].encoder.weight, learn.model[0].encoder.weight) and other.model[1].decoder.weight is other.model[0].encoder.weight
    told(lambda: make('lm').load_encoder(checkpoint(seed=3).but(direction='bwd')), 'reads backwards')

@both
def test_files_that_fastai_saved_load_by_fastais_call(make, kind, tmp_path):
    theirs = get_language_model(fastais_awd_lstm, len(words), dict(awd_lstm_lm_config, **sizes))
    torch.save(theirs.state_dict(), tmp_path/'lm.pth')
    save_pickle(tmp_path/'lm.pkl', words)
    learn = make(kind).load_pretrained(tmp_path/'lm.pth', tmp_path/'lm.pkl')
    encoder = learn.model[0].module if kind == 'clas' else learn.model[0]
    assert torch.equal(encoder.encoder.weight, theirs[0].encoder.weight)

def test_to_judge_is_as_exact_as_to_predict(make):
    "In float32, whatever the training multiplied in"
    learn = make('clas', cbs=[BF16()])
    seen = []
    class Types(Callback):
        def after_pred(self): seen.append((self.training, torch.is_autocast_enabled('cpu') or 'forward' in vars(self.learn.model)))
    for cb in learn.cbs: cb.order = getattr(cb, 'order', 0)
    Types.order = -31   # before the forward pass is put back
    fitted(learn, cbs=Types())
    assert set(seen) == {(True, True), (False, True)}   # while it is fitted, in 16 bits
    seen.clear()
    with learn.no_bar():
        loss = learn.validate(cbs=[Types()])[0]
        probs, y = learn.get_preds(cbs=[Types()])
    assert set(seen) == {(False, False)} and float(loss) == pytest.approx(-probs[range(len(y)), y].log().mean().item(), abs=1e-5)

# The finder, where the folder cannot be written

@both
def test_lr_find_leaves_nothing(learn, kind, tmp_path, monkeypatch):
    before = weights(learn)
    for place in (tmp_path, Path('/proc')):   # where root cannot write either
        if not place.is_dir(): continue
        monkeypatch.chdir(place)
        learn.path = place
        with learn.no_bar(), learn.no_logging(): found = learn.lr_find(show_plot=False, num_it=12)
        assert found.valley > 0 and torch.equal(weights(learn), before)
        assert learn.model_dir == 'models' and not (place/'models').exists()
    assert not list(tmp_path.iterdir())

# fastai's interpretation

@pytest.mark.parametrize('kind', ['clas'])
def test_interpretation(learn, capsys, monkeypatch):
    with learn.no_bar(): found = ClassificationInterpretation.from_learner(learn)
    probs, y = predictions(learn)
    assert found.confusion_matrix().tolist() == [[int(((probs.argmax(1) == p) & (y == t)).sum()) for p in (0, 1)] for t in (0, 1)]
    losses, idx = found.top_losses(4)
    mine = -np.log(probs[range(16), y])
    assert np.allclose(losses, np.sort(mine)[::-1][:4], atol=1e-3) and np.allclose(losses, mine[idx], atol=1e-3)
    _, idx, items = found.top_losses(3, items=True)
    assert list(items) == [(valid.text[i], valid.label[i]) for i in idx.tolist()]
    shown = []
    monkeypatch.setattr('fastai.text.learner.display_df', shown.append)
    with learn.no_bar(): found.plot_top_losses(3)
    assert list(shown[0].columns) == ['input', 'target', 'predicted', 'probability', 'loss']
    assert [valid.label[i] for i in idx.tolist()] == list(shown[0].target) and np.allclose(shown[0].loss.astype(float), losses[:3], atol=1e-3)
    found.plot_confusion_matrix(); found.print_classification_report()
    assert 'neg' in capsys.readouterr().out and isinstance(found.most_confused(), list)

@pytest.mark.parametrize('kind', ['lm'])
def test_predictions_of_a_language_model(learn):
    "For each token a number for each word, in the order of the text"
    dl = learn.dls.valid
    with learn.no_bar(): probs, y = learn.get_preds()
    assert probs.shape == (dl.bs, dl.row_len, len(words)) and torch.allclose(probs.sum(2), torch.ones(()), atol=1e-5)
    assert torch.equal(y, torch.from_numpy(dl.rows[:, 1:].astype(int)))
    learn.model.eval(); learn.model.reset()
    with torch.no_grad(): first = learn.model(dl.one_batch()[0])[0].softmax(2)
    assert torch.allclose(probs[:, :dl.seq_len], first, atol=1e-5)
    with learn.no_bar(): assert float(learn.validate()[0]) == pytest.approx(-probs.gather(2, y[:, :, None]).log().mean().item(), abs=5e-3)
    fitted(learn)
    learn.dls.valid.seq_len = 2**30
    told(lambda: learn.get_preds(), 'give a loader of less text')

# Callbacks

@both
def test_the_best_model_is_kept(learn, kind, tmp_path):
    with learn.no_bar(), learn.no_logging(), redirect_stdout(io.StringIO()): learn.fit_one_cycle(3, 1e-2, cbs=SaveModelCallback(monitor='valid_loss', fname='best'))
    losses = [float(v[1]) for v in learn.recorder.values]
    assert (tmp_path/'models'/'best.pth').is_file()
    with learn.no_bar(): assert float(learn.validate()[0]) == pytest.approx(min(losses), abs=2e-3)   # it was loaded at the end
    every = SaveModelCallback(every_epoch=True, fname='epoch')
    fitted(learn, 2, cbs=every)
    assert sorted(f.name for f in (tmp_path/'models').glob('epoch*.pth')) == ['epoch_0.pth', 'epoch_1.pth']

@both
def test_a_fit_stops_early(learn, kind):
    fitted(learn, 5, cbs=EarlyStoppingCallback(monitor='valid_loss', min_delta=100., patience=1))
    assert len(learn.recorder.values) == 2
    assert len(fitted(learn, 2).recorder.values) == 2

@both
def test_a_log_is_written(learn, kind, tmp_path):
    log = CSVLogger(fname='sub.csv')
    fitted(learn, 2, cbs=log)
    table = pd.read_csv(tmp_path/'sub.csv')
    assert list(table.epoch) == [0, 1] and {'train_loss', 'valid_loss', 'accuracy' if kind == 'clas' else 'perplexity'} < set(table)

@both
def test_fine_tune_freeze_and_summary(learn, kind):
    with learn.no_bar(), learn.no_logging(), redirect_stdout(io.StringIO()):
        learn.fine_tune(1, 1e-3); learn.freeze_to(-2); learn.fit_one_cycle(1, slice(1e-4, 1e-3)); learn.unfreeze(); learn.fit(1, 1e-4)
        assert 'Total params' in learn.summary()
    assert len(learn.show_results()) > 0

@both
def test_an_interrupted_fit_leaves_the_learner_whole(make, kind):
    class Stop(Callback):
        def after_loss(self): raise KeyboardInterrupt
    learn = make(kind)
    loss, before = learn.loss_func, weights(learn)
    with pytest.raises(KeyboardInterrupt): fitted(learn, cbs=Stop())
    assert learn.loss_func is loss and torch.equal(weights(learn), before) and 'forward' not in vars(learn.model)
    with learn.no_bar(): assert np.isfinite(float(learn.validate()[0]))
    fitted(learn)

# fastai's own loaders

@pytest.mark.slow
def test_loaders_of_fastai(tmp_path):
    "Its tutorial's order: a language model, its encoder, a classifier, and what hangs on it"
    data = pd.concat([frame(40), frame(16, 1)]).assign(is_valid=[False]*40+[True]*16).reset_index(drop=True)
    dls_lm = TextDataLoaders.from_df(data, text_col='text', is_lm=True, valid_col='is_valid', bs=4, seq_len=20)
    lm = language_model_learner(dls_lm, fastais_awd_lstm, metrics=[accuracy, Perplexity()], path=tmp_path, wd=.1, verbose=False).to_fp16()
    fitted(lm).save_encoder('finetuned')
    dls = TextDataLoaders.from_df(data, text_col='text', label_col='label', valid_col='is_valid', bs=8, text_vocab=dls_lm.vocab)
    learn = text_classifier_learner(dls, fastais_awd_lstm, drop_mult=.5, metrics=accuracy, path=tmp_path, verbose=False).load_encoder('finetuned', verbose=False)
    fitted(learn)
    want = learn.predict(text)[2]
    learn.export('x.pkl')
    assert not [t for t in data.text if t.encode() in (tmp_path/'x.pkl').read_bytes()]
    assert torch.allclose(load_learner(tmp_path/'x.pkl').predict(text)[2], want, atol=1e-5)
    assert np.allclose(load_bundle(save_bundle(learn, tmp_path/'b'), precision='float32').predict(text)[2], want, atol=1e-5)
    with learn.no_bar(), redirect_stdout(io.StringIO()):
        found = ClassificationInterpretation.from_learner(learn)
        found.plot_top_losses(2)
        probs = learn.get_preds(dl=learn.dls.test_dl(data))[0]
    assert len(probs) == len(data) and found.confusion_matrix().sum() == 16
    copy.deepcopy(learn); copy.deepcopy(lm)
    lm.export('lm.pkl')
    assert load_learner(tmp_path/'lm.pkl').predict('the film', 3, temperature=0.) == lm.predict('the film', 3, temperature=0.)
