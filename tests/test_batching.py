"""Token streams, language-model batches and document batches: against fastai's, through faults, and within their memory"""
import json, subprocess, sys, threading, tracemalloc
import numpy as np, pandas as pd, pytest, torch
from fastai.text.data import LMDataLoader
from ulmfit_course.batching import StreamLoader, lm_dataloaders, varied_cuts
from ulmfit_course.core import CourseError
from ulmfit_course.loaders import TextToIds, classifier_dataloaders
from ulmfit_course.streams import TokenStream
from ulmfit_course.tokenization import WordTokenizer
from ulmfit_course.training import RescaleLR
from ulmfit_course.vocabulary import numericalize

texts = [f"This is review number {i} of a GREAT film, and it is {'good' if i % 2 else 'bad'}!! " * (1 + i % 7) for i in range(40)]
frame = pd.DataFrame(dict(text=texts, label=['pos' if i % 2 else 'neg' for i in range(40)]))

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

@pytest.fixture
def stream(tmp_path): return TokenStream.build(texts, tmp_path/'stream', min_freq=1, n_procs=1)

def numbers(n): return TokenStream(np.arange(n, dtype=np.uint16), ['xxunk'])

@pytest.mark.parametrize('n_procs', [1, 2])
def test_stream_is_what_tokenizing_one_by_one_gives(tmp_path, n_procs):
    many = texts*12  # more than two groups
    stream = TokenStream.build(iter(many), tmp_path/'s', n_procs=n_procs)
    by_hand = [i for toks in WordTokenizer()(many) for i in numericalize(toks, stream.vocab)]
    assert stream.ids.tolist() == by_hand and stream.meta['n_tokens'] == len(by_hand)
    assert isinstance(stream.ids, np.memmap) and stream.ids.dtype == np.uint16

@pytest.mark.parametrize('n,bs,seq_len', [(1000, 8, 70), (1000, 1, 33), (961, 8, 15), (97, 4, 24), (29, 4, 7), (257, 16, 16)])
@pytest.mark.parametrize('backwards', [False, True])
def test_batches_equal_fastais(n, bs, seq_len, backwards):
    stream = numbers(n)
    docs = [torch.from_numpy(d.astype(np.int64)) for d in np.array_split(stream.ids, 5)]
    if backwards: docs = [d.flip(0) for d in reversed(docs)]
    ours, theirs = list(StreamLoader(stream, bs, seq_len, backwards)), list(LMDataLoader(docs, bs=bs, seq_len=seq_len))
    assert len(ours) == len(theirs) == len(StreamLoader(stream, bs, seq_len))
    for a,b in zip(ours, theirs): assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])

@pytest.mark.parametrize('variable_bptt', [False, True])
def test_shards_cover_every_token_once_and_resume_at_the_right_one(variable_bptt):
    loader = StreamLoader(numbers(10_000), 4, 20, shards=3, variable_bptt=variable_bptt)
    parts = [torch.cat([x for x,_ in loader], 1) for _ in range(3)]
    assert torch.equal(torch.cat(parts, 1), torch.arange(9996).view(4, -1))
    again = StreamLoader(numbers(10_000), 4, 20, shards=3, variable_bptt=variable_bptt)
    again.epoch = 1
    assert torch.equal(torch.cat([x for x,_ in again], 1), parts[1])
    assert torch.equal(again.one_batch()[0], again.one_batch()[0])

def test_varied_lengths_follow_the_paper():
    lengths = np.diff(varied_cuts(0, 500_000, 70, np.random.default_rng(3)))[:-1]
    short = lengths < 52
    assert abs(short.mean()-0.05) < 0.01 and lengths.min() >= 5
    assert abs(lengths[~short].mean()-69.5) < 0.3 and abs(lengths[~short].std()-5) < 0.3 and abs(lengths[short].mean()-34.5) < 1

def test_rate_is_rescaled_within_a_fit_and_given_back():
    import fastai.callback.progress  # noqa: F401, patches no_bar into Learner
    from fastai.learner import Learner
    from fastai.callback.core import Callback
    from fastai.losses import CrossEntropyLossFlat
    rates = []
    class Watch(Callback):
        order = 70
        def before_batch(self):
            if self.training: rates.append((self.xb[0].shape[1], self.opt.hypers[0]['lr']))
    vocab = ['xxunk', *map(str, range(49))]
    stream = TokenStream((np.arange(2000) % 50).astype(np.uint16), vocab)
    learn = Learner(lm_dataloaders(stream, stream, 4, 20, variable_bptt=True), torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50)),
                    loss_func=CrossEntropyLossFlat(), cbs=[RescaleLR(20), Watch()])
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
    assert len({n for n,_ in rates}) > 3
    for n,lr in rates: assert lr == pytest.approx(0.01*n/20)
    assert learn.opt.hypers[0]['lr'] == 0.01

def test_cached_depends_on_texts_and_settings():
    first = TokenStream.cached(texts, n_procs=1)
    same = TokenStream.cached(iter(texts), n_procs=1)
    assert first.ids.filename == same.ids.filename == TokenStream.cached(texts, n_procs=2).ids.filename
    others = [TokenStream.cached(texts[:-1], n_procs=1), TokenStream.cached(texts, n_procs=1, min_freq=1), TokenStream.cached(texts, vocab=first.vocab[:24], n_procs=1)]
    assert len({first.ids.filename, *(o.ids.filename for o in others)}) == 4

def test_cached_by_several_at_once_gives_one_whole_stream():
    found = []
    threads = [threading.Thread(target=lambda: found.append(TokenStream.cached(texts*3, n_procs=1))) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(found) == 4 and all(np.array_equal(s.ids, found[0].ids) for s in found)

def test_a_build_that_fails_leaves_nothing(tmp_path):
    def breaks():
        yield from texts
        raise OSError('disk gone')
    for n_procs in (1, 2):
        with pytest.raises(OSError): TokenStream.build(breaks(), tmp_path/'x'/'s', n_procs=n_procs)
        assert list((tmp_path/'x').iterdir()) == []

@pytest.mark.parametrize('bad,says', [([], 'no text'), (['', '  '], 'no text'), (['a', 3.5], 'text 1 is not a string'), ('one string', 'list of texts')])
@pytest.mark.parametrize('n_procs', [1, 2])
def test_bad_texts(tmp_path, bad, says, n_procs):
    with pytest.raises(CourseError, match=says): TokenStream.build(bad, tmp_path/'x'/'s', n_procs=n_procs)
    assert list((tmp_path/'x').iterdir()) == []

def test_bad_streams(tmp_path, stream):
    with pytest.raises(CourseError, match='too few'): StreamLoader(stream[:60], 64)
    with pytest.raises(CourseError, match='different vocabularies'): lm_dataloaders(stream, TokenStream(stream.ids, stream.vocab[:-1]))
    with pytest.raises(CourseError, match='no token stream'): TokenStream.load(tmp_path/'nowhere')
    with pytest.raises(CourseError, match='xxunk'): TokenStream.build(texts, tmp_path/'y', vocab=['some', 'words'], n_procs=1)
    (tmp_path/'stream'/'vocab.json').write_text(json.dumps(stream.vocab[::-1]))
    with pytest.raises(CourseError, match='another stream'): TokenStream.load(tmp_path/'stream')

def test_a_text_of_one_million_words_is_fine_in_a_stream(tmp_path, stream):
    long = TokenStream.build(['word after word and '*250_000], tmp_path/'long', vocab=stream.vocab, n_procs=1)
    assert len(long) >= 1_000_000

def test_reading_a_large_stream_takes_no_memory(tmp_path):
    n = 20_000_000
    ids = np.lib.format.open_memmap(tmp_path/'big.npy', 'w+', np.uint16, (n,))
    del ids
    loader = StreamLoader(TokenStream(np.load(tmp_path/'big.npy', mmap_mode='r'), ['xxunk']), 64, 70)
    tracemalloc.start()
    seen = sum(x.shape[0]*x.shape[1] for x,_ in loader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == (n-1)//64*64 and peak < 2_000_000

@pytest.mark.parametrize('backwards', [False, True])
def test_document_batches_hold_every_token_and_label(stream, backwards):
    dls = classifier_dataloaders(frame, frame[:10], stream.vocab, bs=4, backwards=backwards)
    ids = {tuple(o[::-1] if backwards else o): l for o,l in zip(TextToIds(stream.vocab).ids(texts), frame.label) for o in [o.tolist()]}
    n = 0
    for x,y in dls.train:
        for row,label in zip(x.tolist(), y.tolist()):
            real = [i for i in row if i != 1]
            assert row == real + [1]*(len(row)-len(real))           # padded at the end only
            assert ids[tuple(real)] == dls.vocab[1][label]
            n += 1
    assert n == len(frame) and sum(len(y) for _,y in dls.valid) == 10

def test_show_batch_of_both_tasks(stream, capsys):
    table = lm_dataloaders(stream, stream, 4, 12).show_batch(max_n=2, max_tokens=8)
    assert table.shape == (2, 2) and table.input[0].split()[1:] == table.target[0].split()[:-1]
    classifier_dataloaders(frame, frame[:10], stream.vocab, bs=4).show_batch(max_n=2)
    assert 'xxpad' not in capsys.readouterr().out

def test_bad_documents(stream):
    def fails(says, train=frame, valid=frame[:4], vocab=stream.vocab, **kw):
        with pytest.raises(CourseError, match=says) as e: classifier_dataloaders(train, valid, vocab, **kw)
        assert '\n' not in str(e.value)
    fails('two classes', train=frame[frame.label == 'pos'], valid=frame[frame.label == 'pos'])
    fails("label 'odd' in row 3 ", valid=frame[:4].assign(label=['pos', 'neg', 'pos', 'odd']))
    fails('validation frame has no rows', valid=frame[:0])
    fails('xxunk', vocab=['some', 'words'])
    fails('text in row 2 has 1,0', train=frame.assign(text=[*texts[:2], 'word after word and '*250_000, *texts[3:]]))

def test_module_stands_alone():
    code = "from ulmfit_course.batching import StreamLoader, TokenStream, classifier_dataloaders; print(TokenStream.__name__, classifier_dataloaders.__name__)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() == ['TokenStream', 'classifier_dataloaders']
