"Files that are damaged, or made by somebody else: each is read and answers in numbers, or is refused in one line; `fuzz(n, seed)` counts"
import copy, json, random, shutil, sys, tempfile, warnings
from pathlib import Path
import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.core import CourseError, peak_rss_mb, set_seed, text_hash
from ulmfit_course.documents import text_classifier
from ulmfit_course.inference import load_bundle
from ulmfit_course.models import Checkpoint, load_checkpoint, model_of, save_checkpoint, words_en
from ulmfit_course.recipes import LMRecipe
from ulmfit_course.streams import TokenStream
from ulmfit_course.subwords import SubwordTokenizer
from ulmfit_course.training import fit_epochs, lm_fit_learner, resume, silent
from ulmfit_course.vocabulary import special_tokens

sizes, head = dict(emb_sz=8, n_hid=10, n_layers=2), dict(lin_ftrs=6, bptt=7, max_len=20)
task = dict(kind='classification', labels=['neg', 'pos'], text_cols=['text'], label_col='label')
texts = ['the film was great fun and lovely w1 w2', '', 'w3 '*40]

# What is damaged

def classifier(folder, tok, vocab):
    net = text_classifier(len(vocab), 2, sizes, **head)
    config = dict(format=2, stage='classifier', arch=sizes, direction='fwd', tokenizer=tok, task=task, head=head, card=dict(corpus='made up', tokens_seen=9))
    return save_checkpoint(folder, Checkpoint(net.state_dict(), vocab, config))

def answers(folder):
    found = load_bundle(folder).probabilities(texts)
    assert found.shape[0] == 3 and np.allclose(found.sum(1), 1, atol=1e-4), 'nan'

class Training:
    "A run of two epochs that was stopped after its first, and what fastai's calls save of it"
    def __init__(self, folder, vocab):
        stream = TokenStream(np.random.default_rng(0).integers(0, len(vocab), 90).astype(np.uint16), vocab)
        recipe = LMRecipe(epochs=2, bs=2, seq_len=10, num_sampled=0)
        self.learn = lm_fit_learner(stream, stream, language_model(len(vocab), sizes), recipe, path=folder)
        fit_epochs(self.learn, folder/'training', recipe, lambda learn, done: learn.fit(1), bar=False)
        self.mark = torch.load(folder/'training'/'training.pth')['fingerprint']
        (folder/'learner').mkdir()
        self.learn.save(folder/'learner'/'kept')
    def used(self):
        with silent(self.learn): self.learn.fit(1)
        assert all(torch.isfinite(p).all() for p in self.learn.model.parameters()), 'nan'
    def goes_on(self, folder):
        assert resume(self.learn, folder/'training.pth', self.mark) < 2
        self.used()
    def loads(self, folder):
        self.learn.load(folder/'kept')
        for p in self.learn.model.parameters(): p.data.nan_to_num_(0, 0, 0).clamp_(-9, 9)   # what a learner loads is its owner's
        self.learn.create_opt()
        self.used()

def generates(folder):
    ck = load_checkpoint(folder)
    with torch.no_grad(): out = model_of(ck).eval()(torch.arange(len(ck.vocab))[None])[0]
    assert torch.isfinite(out.softmax(2)).all() and repr(ck) and ck.tokenizer.tokenize('a film'), 'nan'

def targets(folder):
    "Folders that are whole, each with what reads it"
    set_seed(0)
    vocab = [*special_tokens, *'the film was great fun and lovely'.split(), *(f'w{i}' for i in range(44))]
    pieces = SubwordTokenizer.train([t or 'w4' for t in texts]*9 + vocab, 'bpe', 70)
    found = {classifier(folder/'words', words_en, vocab): answers, classifier(folder/'pieces', pieces.config(), pieces.vocab): answers}
    first = classifier(folder/'first', words_en, vocab)
    config = json.loads((first/'config.json').read_text())
    old = dict(stage='classifier', arch=sizes, backwards=False, labels=task['labels'], card=dict(licence='CC0'), vocab_hash=config['vocab_hash'], tied=config['tied'], **head)
    (first/'config.json').write_text(json.dumps(old))
    lm = Checkpoint(language_model(len(vocab), sizes).state_dict(), vocab, dict(arch=sizes, stage='pretraining', direction='fwd'))
    train = Training(folder, vocab)
    return found | {first: answers, save_checkpoint(folder/'lm', lm, 16): generates, save_checkpoint(folder/'int8', lm, 8): generates,
                    folder/'training': train.goes_on, folder/'learner': train.loads}

# How

extremes = (None, True, False, 0, 1, -1, 2, 7, 0.5, -1e308, 1e999, float('nan'), 10**6, 2**31, 2**63, 10**30, '', 'a', '\n', '\u202e\x1b[31m', 'x'*10_000, '../..', '/etc/passwd',
            [], [[]], [None], ['a'], ['a', 'a'], [1, True], {}, {'a': 1}, 'fwd', 'words', 'classifier', 'bpe', ['neg', 'pos', 'more'])

def places(value, path=()):
    "Every entry of what JSON or `torch.save` holds, as a path"
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for k, v in list(inner)[:80]: yield from places(v, (*path, k))

def replaced(value, path, by):
    "With another entry at a path; `...` removes it"
    if not path: return by
    value = copy.copy(value)
    if by is ... and len(path) == 1: del value[path[0]]
    else: value[path[0]] = replaced(value[path[0]], path[1:], by)
    return value

def deep(n): return json.loads('['*n + ']'*n)

def other_value(rng, value):
    "Something else in the place of an entry"
    kind = rng.random()
    if kind < .2: return ...
    if kind < .3: return deep(rng.choice((5, 30, 400)))
    if kind < .4 and isinstance(value, (dict, list)): return [value]
    if kind < .5 and isinstance(value, int): return value + rng.choice((-1, 1, 1000))
    return rng.choice(extremes)

def other_tensor(rng, t):
    "Another shape, another type, or other numbers"
    def with_one(v):
        t2 = t.clone().flatten() if t.numel() else torch.zeros(1)
        t2[rng.randrange(len(t2))] = v
        return t2.view(t.shape) if t.numel() else t2
    floats = t.is_floating_point()
    ways = [lambda: t.flatten(), lambda: t[None], lambda: t[..., :0] if t.dim() else t[None][:0], lambda: torch.cat([t, t]) if t.dim() else t.repeat(3), lambda: t.mT if t.dim() == 2 else t[None, None],
            lambda: t.to(rng.choice((torch.int8, torch.int64, torch.bool, torch.complex64, torch.float64, torch.bfloat16))),
            *[lambda v=v: with_one(v) for v in (float('nan'), float('inf'), -1e30, 1e30, 3e5, -3.) if floats],
            lambda: torch.zeros_like(t), lambda: t*0 - 1 if t.dtype != torch.bool else t]
    return rng.choice(ways)().contiguous()

def damaged_bytes(rng, raw):
    raw, at = bytearray(raw), rng.randrange(max(1, len(raw)))
    if not raw: return b'{'
    kind = rng.random()
    if kind < .5:
        for _ in range(rng.choice((1, 1, 3, 20))): raw[rng.randrange(min(len(raw), rng.choice((16, 400, 10**9))))] ^= 1 << rng.randrange(8)
    elif kind < .75: del raw[at:]
    elif kind < .85: raw[at:at+rng.randrange(1, 200)] = bytes(rng.randrange(1, 200))
    elif kind < .95: raw[at:at] = rng.randbytes(rng.randrange(1, 50))
    else: raw = rng.randbytes(rng.choice((1, 8, 100)))
    return bytes(raw)

def damaged_json(rng, path):
    value = json.loads(path.read_text('utf8'))
    for _ in range(rng.choice((1, 1, 1, 2))):
        spots = list(places(value))
        spot = rng.choice(spots if rng.random() < .3 else [s for s in spots if len(s) < 3])
        old = value
        for k in spot: old = old[k]
        new = other_value(rng, old)
        value = replaced(value, spot, {} if new is ... and not spot else new)
    return '['*200_000 if rng.random() < .02 else json.dumps(value)

def damaged_tensors(rng, tree):
    "A dictionary with tensors in it, one of them another, moved or gone; or another entry"
    spots = [s for s in places(tree) if s]
    spot = rng.choice(spots)
    old = tree
    for k in spot: old = old[k]
    if torch.is_tensor(old) and rng.random() < .8: return replaced(tree, spot, other_tensor(rng, old))
    return replaced(tree, spot, rng.choice((..., other_value(rng, old), torch.zeros(3), torch.zeros(1).expand(10**9))))

def damage(rng, folder):
    "One file of a folder is another"
    path = rng.choice(sorted(p for p in folder.iterdir() if p.is_file()))
    if rng.random() < .03: return path.unlink()
    if rng.random() < .35: return path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    if path.suffix == '.pth': return torch.save(damaged_tensors(rng, torch.load(path)), path)
    if path.suffix == '.safetensors':
        whole = {k: v for k,v in damaged_tensors(rng, load_file(path)).items() if torch.is_tensor(v) and v.numel() < 10**6}
        return save_file(whole, path)
    path.write_text(damaged_json(rng, path), 'utf8', 'surrogatepass')
    config = folder/'config.json'
    if path.name == 'vocab.json' and rng.random() < .7:   # a hash that fits, as of somebody who knows what he does
        try: config.write_text(json.dumps(json.loads(config.read_text()) | dict(vocab_hash=text_hash(json.loads(path.read_text('utf8'))))))
        except (ValueError, TypeError, RecursionError): pass

def outcome(read, folder):
    "`loaded`, `refused`, or what went wrong"
    try: read(folder)
    except CourseError as e: return 'refused' if str(e) and len(str(e).splitlines()) == 1 else f'not one line: {e!r}'
    except KeyboardInterrupt: raise
    except BaseException as e: return f'{"nan" if str(e).startswith("nan") else "traceback"}: {e!r}'   # those of Rust are no `Exception`
    return 'loaded'

def fuzz(n, seed=0, say=print):
    "Damage `n` files and read them; each fault is said as it is found"
    rng, found = random.Random(seed), dict(loaded=0, refused=0, tracebacks=0, nan=0)
    with tempfile.TemporaryDirectory() as tmp, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        readers = targets(Path(tmp))
        for folder, read in readers.items(): assert outcome(read, folder) == 'loaded', folder
        before = peak_rss_mb()
        for i in range(n):
            whole = rng.choice(list(readers))
            mutant, torch_state = shutil.copytree(whole, Path(tmp)/'mutant'), torch.get_rng_state()
            damage(rng, mutant)
            got = outcome(readers[whole], mutant)
            found[got if got in found else 'nan' if got.startswith('nan') else 'tracebacks'] += 1
            if got not in found: say(f'{i} {whole.name}: {got}')
            shutil.rmtree(mutant)
            torch.set_rng_state(torch_state)
        return dict(tried=n, **found, peak_mb=round(peak_rss_mb()-before, 1))

@pytest.mark.parametrize('n,seed', [(150, 0), pytest.param(2000, 1, marks=pytest.mark.slow), pytest.param(500, 2, marks=pytest.mark.slow)])
def test_damaged_files(n, seed):
    faults = []
    found = fuzz(n, seed, faults.append)
    assert not faults and found['peak_mb'] < 200 and min(found['loaded'], found['refused']) > n/50, (found, faults[:9])
    assert found['loaded'] + found['refused'] == found['tried'] == n

if __name__ == '__main__':   # python tests/test_fuzz.py 5000 7
    torch.set_num_threads(1)
    print(json.dumps(fuzz(*map(int, sys.argv[1:]))))
