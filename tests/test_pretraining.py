"""Stage 1: measures against independent ones, runs that are killed and go on, the card and the catalogue"""
import inspect, json, math, os, signal, subprocess, sys, time
from urllib.error import URLError
import numpy as np, pytest, torch
from fastai.callback.core import Callback
from ulmfit_course import models
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.documents import text_classifier
from ulmfit_course.models import Checkpoint, catalogue, list_models, load_checkpoint, load_pretrained, model_of, save_checkpoint, words_en
from ulmfit_course.pretraining import evaluate_lm, pretrain, start_at_unigrams, wiki_sample
from ulmfit_course.streams import TokenStream

config = dict(emb_sz=12, n_hid=16, n_layers=2)
settings = dict(config=config, epochs=3, bs=4, seq_len=16, num_sampled=100, bar=False)

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

@pytest.fixture(scope='session')
def streams(tmp_path_factory):
    folder, texts = tmp_path_factory.mktemp('streams'), wiki_sample()
    train = TokenStream.build(texts[:6], folder/'train', min_freq=4, n_procs=1)
    return train[:6000], TokenStream.build(texts[6:8], folder/'valid', vocab=train.vocab, n_procs=1)[:1200]

def test_wiki_sample():
    texts = wiki_sample()
    assert len(texts) == len(set(texts)) == 60 and min(map(len, texts)) > 1000

@pytest.mark.parametrize('backwards', [False, True])
def test_evaluate_lm_is_torchs_cross_entropy_of_one_long_pass(streams, backwards):
    _, valid = streams
    set_seed(0)
    model = language_model(len(valid.vocab), config).eval()
    got = evaluate_lm(model, valid, bs=3, seq_len=50, backwards=backwards)
    ids = torch.from_numpy((valid.ids[::-1] if backwards else valid.ids).astype(np.int64))
    n = (len(ids)-1)//3
    rows = torch.stack([ids[i*n:(i+1)*n+1] for i in range(3)])
    model.reset()
    with torch.no_grad(): logits = model(rows[:, :-1])[0]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()
    assert got['valid_loss'] == pytest.approx(loss, abs=1e-5) and got['perplexity'] == pytest.approx(math.exp(loss), rel=1e-4)
    assert got['accuracy'] == pytest.approx((logits.argmax(2) == rows[:, 1:]).float().mean().item()) and got['tokens'] == 3*n

def test_start_at_unigrams_gives_the_unigram_loss(streams):
    train, valid = streams
    model = start_at_unigrams(language_model(len(train.vocab), dict(config, tie_weights=False)), train)
    model[1].decoder.weight.data.zero_()
    counts = np.bincount(train.ids, minlength=len(train.vocab))+1
    loss = -np.log(counts/counts.sum())[np.asarray(valid.ids[1:])].mean()
    assert evaluate_lm(model, valid, bs=1)['valid_loss'] == pytest.approx(loss, abs=1e-4)

@pytest.mark.parametrize('direction,variable_bptt', [('fwd', False), ('bwd', True)])
def test_stopped_and_resumed_is_the_uninterrupted_run(streams, tmp_path, direction, variable_bptt):
    class Stop(Callback):
        order = 95
        def after_epoch(self): raise RuntimeError('stopped')
    kw = dict(settings, drop_mult=0.3, direction=direction, variable_bptt=variable_bptt)
    set_seed(1); whole = pretrain(*streams, tmp_path/'whole', **kw)
    set_seed(1)
    with pytest.raises(RuntimeError): pretrain(*streams, tmp_path/'stopped', cbs=[Stop()], **kw)
    assert not (tmp_path/'stopped').exists()
    set_seed(2); resumed = pretrain(*streams, tmp_path/'stopped', **kw)
    losses = lambda ck: [(c['train_loss'], c['valid_loss']) for c in ck.config['card']['curve']]
    assert len(losses(whole)) == 3 and np.allclose(losses(whole), losses(resumed), atol=0.02)
    for k,w in whole.weights.items(): assert torch.allclose(w, resumed.weights[k], atol=0.02), k
    assert resumed.direction == direction

child = '''
import sys, time, torch
torch.set_num_threads(1)
from pathlib import Path
from fastai.callback.core import Callback
from ulmfit_course.streams import TokenStream
from ulmfit_course.pretraining import pretrain
class Slow(Callback):
    def after_batch(self): time.sleep(float(sys.argv[2]))
folder = Path(sys.argv[1])
texts = [f"Sentence {i} of a small corpus says that {i % 7} and {i % 5} are numbers." for i in range(400)]
train = TokenStream.cached(texts[40:], n_procs=1)
valid = TokenStream.cached(texts[:40], vocab=train.vocab, n_procs=1)
pretrain(train, valid, folder/'model', config=dict(emb_sz=8, n_hid=12, n_layers=2), epochs=4, bs=4, seq_len=24, bar=False, cbs=[Slow()], corpus='numbers', license='CC0')
'''

@pytest.mark.skipif(os.name != 'posix', reason='kills with SIGKILL')
def test_a_killed_run_goes_on(tmp_path):
    start = lambda pause: subprocess.Popen([sys.executable, '-c', child, str(tmp_path), str(pause)], stderr=subprocess.PIPE, text=True)
    kept, process = tmp_path/'model.training'/'training.pth', start(0.04)
    try:
        deadline = time.time()+60
        while not kept.exists() and process.poll() is None and time.time() < deadline: time.sleep(0.02)
    finally: process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and kept.exists(), process.stderr.read()
    state = torch.load(kept, weights_only=True)
    assert 1 <= state['epoch'] < 4 and not (tmp_path/'model').exists()
    process = start(0)
    assert process.wait(60) == 0, process.stderr.read()
    card = load_checkpoint(tmp_path/'model').config['card']
    assert [c['epoch'] for c in card['curve']] == [1, 2, 3, 4]
    assert card['curve'][:state['epoch']] == state['curve']                       # the first run's own numbers
    assert card['seconds'] >= state['curve'][-1]['seconds'] and card['corpus'] == 'numbers'
    assert sorted(f.name for f in (tmp_path/'model').iterdir()) == ['config.json', 'model.safetensors', 'run.json', 'vocab.json']

def test_another_run_is_not_continued(streams, tmp_path):
    train, valid = streams
    pretrain(train, valid, tmp_path/'m', **settings)
    for other in (dict(settings, bs=2), dict(settings, epochs=4, shards=3), dict(settings, config=dict(config, n_hid=20)), dict(settings, direction='bwd'),
                  dict(settings, lr=1e-4), dict(settings, drop_mult=0.5), dict(settings, wd=0.1), dict(settings, clip=1.), dict(settings, num_sampled=0), dict(settings, shards=2), dict(settings, variable_bptt=True), dict(settings, seed=3), dict(settings, config=dict(config, weight_p=0.7))):
        with pytest.raises(CourseError, match='another folder'): pretrain(train, valid, tmp_path/'m', **other)
    with pytest.raises(CourseError, match='another folder'): pretrain(train[:5000], valid, tmp_path/'m', **settings)

def test_a_start_is_gone_on_from(streams, tmp_path):
    "With a rate of almost nothing the model is the start, in either direction; its sizes and words are its own"
    set_seed(1)
    first = pretrain(*streams, tmp_path/'first', **settings)
    more = {k: v for k,v in settings.items() if k != 'config'} | dict(epochs=1, lr=1e-9, direction='bwd', parent='first')
    reversed_ = pretrain(*streams, tmp_path/'reversed', start=first, **more)
    assert reversed_.config['arch'] == first.config['arch'] and reversed_.backwards and reversed_.config['card']['parent'] == 'first'
    assert reversed_.config['card']['command'].startswith("pretrain(train, valid, out, start='first', epochs=1, ")
    assert all(torch.allclose(v, first.weights[k], atol=1e-3) for k,v in reversed_.weights.items())
    save_checkpoint(tmp_path/'weights', Checkpoint({k: v+1 for k,v in first.weights.items()}, first.vocab, first.config))
    with pytest.raises(CourseError, match='another folder'): pretrain(*streams, tmp_path/'reversed', start=tmp_path/'weights', **more)   # a run is known by its start's weights
    with pytest.raises(CourseError, match='leave config out'): pretrain(*streams, tmp_path/'a', start=first, config=config, **more)
    other = Checkpoint(first.weights, first.vocab[::-1], first.config)
    with pytest.raises(CourseError, match='vocab=start.vocab'): pretrain(*streams, tmp_path/'b', start=other, **more)

def test_bad_settings(streams, tmp_path):
    with pytest.raises(CourseError, match="'droput'"): pretrain(*streams, tmp_path/'m', droput=0.1, **settings)
    with pytest.raises(CourseError, match='hid_sz'): pretrain(*streams, tmp_path/'m', **dict(settings, config=dict(hid_sz=3)))
    with pytest.raises(CourseError, match='epochs=0'): pretrain(*streams, tmp_path/'m', **dict(settings, epochs=0))
    with pytest.raises(CourseError, match='seq_len=0'): pretrain(*streams, tmp_path/'m', **dict(settings, seq_len=0))
    (tmp_path/'full').mkdir(); (tmp_path/'full'/'mine.txt').write_text('mine')
    with pytest.raises(CourseError, match='name a new folder'): pretrain(*streams, tmp_path/'full', **settings)
    assert not (tmp_path/'full.training').exists()   # nothing was trained before
    assert not (tmp_path/'m').exists()

def test_card_and_catalogue(streams, tmp_path):
    train, valid = streams
    ck = pretrain(train, valid, tmp_path/'home'/'models'/'mine', corpus='eight articles', license='CC BY-SA 4.0', command='make mine', **settings)
    card = ck.config['card']
    assert (card['corpus'], card['license'], card['command']) == ('eight articles', 'CC BY-SA 4.0', 'make mine')
    assert card['tokens_seen'] == (len(train)-1)//4*4 and card['perplexity'] == pytest.approx(math.exp(card['valid_loss']))
    assert card['hardware'] and card['seconds'] > 0 and len(card['curve']) == 3 and 0 <= card['accuracy'] <= 1
    run = json.loads((tmp_path/'home'/'models'/'mine'/'run.json').read_text())
    assert run['metrics']['perplexity'] == card['perplexity']
    assert run['card'] == card and run['data_hash'] == train.meta['data_hash'] is not None
    mine = list_models()['mine']
    assert mine['words'] == sum(w != 'xxfake' for w in train.vocab) and (mine['direction'], mine['tokenizer']) == ('fwd', 'words en')
    assert mine['bytes'] == sum(f.stat().st_size for f in (tmp_path/'home'/'models'/'mine').iterdir())
    table = catalogue()
    assert table.loc['mine', 'direction'] == 'fwd' and table.loc['wikitext-103-backwards', 'direction'] == 'bwd'
    saved, kept = evaluate_lm(model_of(load_pretrained('mine')), valid), card['valid_loss']
    assert saved['valid_loss'] == pytest.approx(kept, abs=0.01)                   # 16 bits on disk

def test_the_recipe_is_in_the_record_and_the_seed_repeats_it(streams, tmp_path):
    recipe = dict(settings, lr=2e-3, drop_mult=0.4, wd=0.02, clip=0.3, variable_bptt=True, direction='bwd', shards=0, seed=5)
    ck = pretrain(*streams, tmp_path/'one', **recipe)
    run = json.loads((tmp_path/'one'/'run.json').read_text())
    wanted = {k: v for k,v in recipe.items() if k not in ('config', 'bar')}
    assert run['config'] == dict(wanted, stage='pretraining', arch=ck.config['arch']) and run['seed'] == 5
    for k,v in wanted.items(): assert f'{k}={v!r}' in ck.config['card']['command']
    typed = eval(ck.config['card']['command'], dict(pretrain=inspect.signature(pretrain).bind, train=1, valid=2, out=3)).arguments   # as one would type it
    assert {k: typed[k] for k in ('train', 'valid', 'out', 'config')} == dict(train=1, valid=2, out=3, config=config) and wanted.items() <= typed['changes'].items()
    torch.manual_seed(99)
    again = pretrain(*streams, tmp_path/'two', **recipe)
    assert all(torch.allclose(w, again.weights[k], atol=1e-3) for k,w in ck.weights.items())

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_cudas_random_state_is_kept(streams, tmp_path):
    pretrain(*streams, tmp_path/'m', **settings)
    kept = torch.load(tmp_path/'m.training'/'training.pth', weights_only=True, map_location='cpu')['cuda_rng']
    torch.cuda.manual_seed_all(8)
    pretrain(*streams, tmp_path/'m', **settings)
    assert all(torch.equal(a, b) for a,b in zip(kept, torch.cuda.get_rng_state_all()))

@pytest.mark.parametrize('name', ['wiki-large', 'wiki-large-backwards'])
def test_the_large_models_lie_in_the_repository(name, tmp_path):
    "A few articles are enough to tell weights in 8 bits from noise, and the other direction"
    card, ck = list_models()[name], load_pretrained(name)
    assert card['bytes'] < 35e6 and card['words'] == len(ck.vocab) == 30_000
    stream = TokenStream.build(wiki_sample()[:4], tmp_path/'s', vocab=ck.vocab, n_procs=1)
    found = evaluate_lm(model_of(ck), stream, bs=8, backwards=ck.backwards)['perplexity']
    assert found == pytest.approx(card['perplexity'], rel=0.35)
    assert evaluate_lm(model_of(ck), stream[:2000], bs=8, backwards=not ck.backwards)['perplexity'] > 5*found

def test_without_the_repository_the_large_models_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(models, 'package', tmp_path/'site-packages'/'ulmfit_course')
    assert 'wiki-large' not in list_models() and 'wiki-small' in list_models()
    with pytest.raises(CourseError, match='clone the repository'): load_pretrained('wiki-large-backwards')

def test_load_pretrained(streams, tmp_path, monkeypatch):
    train, _ = streams
    with pytest.raises(CourseError, match='choose one of .*wikitext-103'): load_pretrained('no-such-model')
    def offline(*args, **kw): raise URLError('no route')
    monkeypatch.setattr(models, 'untar_data', offline)
    with pytest.raises(CourseError, match=r"could not be downloaded \(no route\).*wiki-small"): load_pretrained('wikitext-103')
    head, task = dict(lin_ftrs=None), dict(kind='classification', labels=['a', 'b'], text_cols=['text'], label_col='label')
    kept = dict(format=2, arch=config, stage='classifier', direction='fwd', tokenizer=words_en, head=head, task=task)
    ck = Checkpoint(text_classifier(8, 2, config, **head).state_dict(), ['xxunk', 'xxpad', *'abcdef'], kept)
    save_checkpoint(tmp_path/'odd', ck)
    with pytest.raises(CourseError, match='holds no language model'): model_of(load_pretrained(tmp_path/'odd'))
    with pytest.raises(CourseError, match='vocab=checkpoint.vocab'): evaluate_lm(language_model(len(train.vocab)+8, config), train)
