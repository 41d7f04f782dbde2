"""Token streams, language-model batches and document batches: against fastai's, through faults, and within their memory"""
import json, random, subprocess, sys, threading, tracemalloc
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from fastai.text.data import LMDataLoader
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.batching import StreamLoader, lm_dataloaders, varied_cuts
from ulmfit_course.core import CourseError
from ulmfit_course.data import split
from ulmfit_course.evaluation import predictions
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import text_classifier_learner
from ulmfit_course.loaders import TextToIds, classifier_dataloaders
from ulmfit_course.models import Checkpoint
from ulmfit_course.streams import TokenStream, corpus_streams, held_out
from ulmfit_course.tokenization import WordTokenizer
from ulmfit_course.training import RescaleLR
from ulmfit_course.tokenizer_base import Tokenizer
from ulmfit_course.vocabulary import make_vocab, numericalize

texts = [f"This is review number {i} of a GREAT film, and it is {'good' if i % 2 else 'bad'}!! " * (1 + i % 7) for i in range(40)]
frame = pd.DataFrame(dict(text=texts, label=['pos' if i % 2 else 'neg' for i in range(40)]))

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

@pytest.fixture
def stream(tmp_path): return TokenStream.build(texts, tmp_path/'stream', min_freq=1, n_procs=1)

def numbers(n): return TokenStream(np.arange(n, dtype=np.uint16), ['xxunk'])

@pytest.mark.parametrize('n_procs', [1, 2])
def test_stream_is_what_tokenizing_one_by_one_gives(tmp_path, n_procs):
    many = texts*40  # more than two groups, so that there is work for two processes
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
        yield from texts*40
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

def test_the_file_is_as_numpy_writes_it(tmp_path, stream):
    np.save(tmp_path/'own.npy', np.array(stream.ids))
    assert (tmp_path/'own.npy').read_bytes() == (tmp_path/'stream'/'ids.npy').read_bytes()

@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_no_file_stays_mapped(tmp_path):
    "Windows removes no folder with a mapped file in it"
    mapped = lambda: [l for l in Path('/proc/self/maps').read_text().splitlines() if str(tmp_path) in l]
    TokenStream.build(texts, tmp_path/'s', min_freq=1, n_procs=1)
    assert mapped() == []
    stream = TokenStream.load(tmp_path/'s')
    assert len(mapped()) == 1 and mapped()[0].endswith('ids.npy')
    stream.ids = np.array(stream.ids)
    assert mapped() == []

def test_broken_streams_say_so_in_one_line(tmp_path, stream):
    "Files cut short, changed, of other kinds: one line, and never an id that is no word"
    rng, good = random.Random(0), {f: (tmp_path/'stream'/f).read_bytes() for f in ('ids.npy', 'vocab.json', 'meta.json')}
    def changed(old):
        new = bytearray(old)
        for _ in range(rng.randint(1, 3)): new[rng.randrange(min(len(new), 200))] = rng.randrange(256)
        return rng.choice([bytes(new), old[:rng.randrange(len(old))], old + b'\0', b'', b'[]', b'{}', b'null', b'['*10**5, b'PK\x03\x04', b'\x80\x04.', old[::-1]])
    refused = 0
    for _ in range(400):
        name = rng.choice([*good])
        (tmp_path/'stream'/name).write_bytes(changed(good[name]))
        try:
            found = TokenStream.load(tmp_path/'stream')
            assert len(found) == len(stream) and found.ids.max() < len(stream.vocab) == len(found.vocab)
        except CourseError as e:
            refused += 1
            assert '\n' not in str(e)
        (tmp_path/'stream'/name).write_bytes(good[name])
    assert refused > 300
    np.save(tmp_path/'stream'/'ids.npy', np.array(['a'], dtype=object), allow_pickle=True)
    with pytest.raises(CourseError, match='is broken'): TokenStream.load(tmp_path/'stream')

def test_hash_decisions_are_independent():
    "Of what one of them picks, the other picks as many as of all"
    frame = pd.DataFrame(dict(text=[f'review {i*7919 % 10_007} of {i}' for i in range(20_000)]))
    parts = split(frame).split
    for share in (0.02, 0.1, 0.3):
        held = np.array([held_out(t, share) for t in frame.text])
        other = np.array([held_out(t, share, 'something else') for t in frame.text])
        for picked in (parts == 'train', parts == 'valid', parts == 'test', other, ~other):
            assert abs(held[picked].mean()-share) < 5*(share*(1-share)/picked.sum())**0.5

def test_streams_drawn_in_another_way_are_refused(tmp_path):
    corpus = tmp_path/'corpus.txt'
    corpus.write_text('\n'.join(f'a text number {i}' for i in range(300)))
    corpus_streams([corpus], tmp_path/'out', 100, 0.2)
    corpus_streams([corpus], tmp_path/'out', 100, 0.2)   # goes on
    made_of = json.loads((tmp_path/'out'/'made_of.json').read_text())
    made_of.pop('drawn')   # as it was when `split` and this looked at one hash
    (tmp_path/'out'/'made_of.json').write_text(json.dumps(made_of))
    with pytest.raises(CourseError, match='another corpus, or other settings'): corpus_streams([corpus], tmp_path/'out', 100, 0.2)
    (tmp_path/'out'/'made_of.json').write_text('{')
    with pytest.raises(CourseError, match='is broken'): corpus_streams([corpus], tmp_path/'out', 100, 0.2)

nasty = ['', ' ', '\n', 'xxpad', 'xxpad xxpad a film', 'a film xxpad xxpad', 'XXPAD', 'xxbos xxmaj a film', 'xxbos', 'xxeos xxbos xxeos', 'xxunk', 'xxfake', 'xxfld 1 a film', 'xxrep 3 !', 'x&#120;pad', '&#120;xbos film', '&lt;xxpad&gt;',
    '\ud83d', 'wow \ude00 film', '\U0001f600'*300, '?!'*600, 'a'*5000, 'ab'*5000, 'xxpad'*100, 'film '*1000, '\x00', '\ufeff', '<pad> [PAD] <unk> [UNK]', 'xx pad', '\u200bxxpad\u200b', 'no no no xxpad xxpad xxpad', '&#' + '9'*5000 + ';']

@pytest.mark.parametrize('backwards', [False, True])
@pytest.mark.parametrize('own', [False, True])
def test_learner_and_bundle_say_the_same_of_every_text(tmp_path, backwards, own):
    "Padding is what fills a row, and no text can write it, whoever cuts the texts"
    torch.manual_seed(0)
    tok = BySpaces() if own else WordTokenizer()
    vocab = make_vocab(['this', 'is', 'review', 'film', 'xx', 'pad', 'bos', '!', 'no', 'a', 'good', 'bad'], [3]*12)
    sizes = dict(emb_sz=8, n_hid=10, n_layers=2)
    ck = Checkpoint(language_model(len(vocab), sizes).state_dict(), vocab, dict(format=2, arch=sizes, stage='lm_finetuning', direction='bwd' if backwards else 'fwd', tokenizer=tok.config()))
    learn = text_classifier_learner(classifier_dataloaders(frame, frame[:10], ck, bs=8, device='cpu'), ck, backwards=backwards, verbose=False, max_unknown=1)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    clas = load_bundle(save_bundle(learn, tmp_path/'b'))
    together, learned = clas.probabilities(nasty), predictions(learn, learn.dls.test_dl(nasty))[0]
    for t,a,b in zip(nasty, together, learned):
        for other in (b, clas.probabilities([t])[0], learn.predict(t)[2].numpy()): assert np.allclose(a, other, atol=1e-5), ascii(t)
    assert np.isfinite(together).all()

class BySpaces(Tokenizer):
    "One that may find no token at all, and takes the control words as they come"
    kind = 'by spaces',
    def tokenize(self, text): return text.split()
    def config(self): return dict(kind='by spaces')
    @classmethod
    def from_config(cls, config): return cls()

def test_no_text_is_empty_or_holds_padding(stream):
    to_ids = TextToIds(stream.vocab, BySpaces())
    assert [o.tolist() for o in to_ids.ids(['', 'xxpad', 'xxfake'])] == [[0]]*3
    with pytest.raises(CourseError, match='xxpad'): TextToIds(['xxunk', 'film'])

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
