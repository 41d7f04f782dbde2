"Corpora that are larger than memory, or than a disk: bounded memory, parts that are kept, hashes that notice a change"
import hashlib, json, os, subprocess, sys
from pathlib import Path
import numpy as np, pandas as pd, pytest
from ulmfit_course import cli, corpora, streams
from ulmfit_course.batching import StreamLoader
from ulmfit_course.core import CourseError, file_hash
from ulmfit_course.readers import iter_texts
from ulmfit_course.streams import JoinedIds, TokenStream, corpus_streams

rng = np.random.default_rng(0)
vocabulary = [''.join(rng.choice(list('abcdefghij'), 6)) for _ in range(3000)]

def lines(n, seed=0, words=40):
    draw = np.random.default_rng(seed).choice(vocabulary, (n, words))
    return [f'Line {i} of {seed}: ' + ' '.join(o) for i,o in enumerate(draw)]

@pytest.fixture
def files(tmp_path):
    "Three files, of three kinds"
    paths = [tmp_path/'one.txt', tmp_path/'two.jsonl', tmp_path/'three.parquet']
    paths[0].write_text('\n'.join(lines(200)))
    paths[1].write_text('\n'.join(json.dumps(dict(text=t)) for t in lines(200, 1)))
    pd.DataFrame(dict(text=lines(200, 2))).to_parquet(paths[2])
    return paths

def cut(files, out, **kw): return corpus_streams(files, out, **dict(max_vocab=500, hold_out=0.1, n_procs=1, chars=10_000) | kw)
def ids(stream): return np.asarray(stream.ids).tolist()

limited = '''
import resource, sys
from pathlib import Path
from ulmfit_course.core import write_json
from ulmfit_course.streams import corpus_streams
folder, room = Path(sys.argv[1]), int(sys.argv[2])*2**20
how = dict(max_vocab=2000, n_procs=1, chars=3_000_000)
corpus_streams([folder/'first.txt'], folder/'first', **how)   # what is loaded once
held = int(next(l for l in open('/proc/self/status') if l.startswith('VmData')).split()[1])*1024
resource.setrlimit(resource.RLIMIT_DATA, (held + room,)*2)
files = sorted(folder.glob('corpus-*'))
size = sum(f.stat().st_size for f in files)
assert size >= 5*room, (size, room)
try: whole = [f.read_text() for f in files]
except MemoryError: whole = 'too large'
assert whole == 'too large'
train, valid = corpus_streams(files, folder/'out', **how)
print(len(train), len(valid), sum(len(train.vocab[i]) > 0 for i in train.ids[:5]))
'''

def five_times(tmp_path, room, n_files=3, kind='txt'):
    "A corpus of five times the memory in MB that a process may take beside what it holds once loaded"
    some, n = lines(5000), 0
    (tmp_path/'first.txt').write_text('\n'.join(lines(20_000, 9)))
    block = ('\n'.join(some) + '\n').encode()
    for k in range(n_files):
        with open(tmp_path/f'corpus-{k}.{kind}', 'wb') as f:
            if kind == 'csv': f.write(b'text\n')
            while f.tell() < 5*room*2**20/n_files + 1:
                n += 1
                f.write(block.replace(b'Line ', b'Line %d ' % n))   # no two texts are the same
    done = subprocess.run([sys.executable, '-c', limited, tmp_path, str(room)], capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-2000:]
    train, valid, _ = map(int, done.stdout.split())
    texts = n*5000
    assert abs(valid/(train + valid) - 0.02) < 0.005 and train + valid > 46*texts   # a text is a mark, six words of its place and forty of its own
    assert not (tmp_path/'out'/'parts').exists()

linux = pytest.mark.skipif(sys.platform != 'linux', reason='memory is limited in another way here')

@linux
@pytest.mark.parametrize('kind', ('txt', 'csv'))
def test_a_corpus_of_five_times_the_memory(tmp_path, kind): five_times(tmp_path, 10, kind=kind)

@linux
@pytest.mark.slow
def test_a_large_corpus_of_five_times_the_memory(tmp_path): five_times(tmp_path, 42)

def test_parts_files_processes_and_disks_make_no_difference(files, tmp_path, monkeypatch):
    whole = cut(files, tmp_path/'whole', chars=10**9)
    texts = [t for f in files for t in iter_texts(f)]
    alone = TokenStream.build([t for t in texts if not corpora.held_out(t, 0.1)], tmp_path/'alone', max_vocab=500, n_procs=1)
    assert whole[0].vocab == alone.vocab and ids(whole[0]) == ids(alone) and whole[0].meta['data_hash'] == alone.meta['data_hash']
    monkeypatch.setattr(corpora, 'worth_processes', 0)
    for name, how in dict(parts={}, processes=dict(n_procs=2), disks=dict(disks=[tmp_path/'disk'])).items():
        made = cut(files, tmp_path/name, **how)
        assert [ids(o) for o in made] == [ids(o) for o in whole] and made[0].vocab == whole[0].vocab
    assert isinstance(made[0].ids, JoinedIds) and (tmp_path/'disk'/'disks'/'train'/'ids.npy').is_file()
    again = cut(files, tmp_path/'disks', disks=[tmp_path/'disk'])
    assert ids(again[0]) == ids(whole[0]) and made[0].meta['data_hash'] != whole[0].meta['data_hash']

def test_a_run_that_was_stopped_goes_on(files, tmp_path, monkeypatch):
    write, made = corpora._write_part, []
    def until(n):
        def stops(texts, path, *args):
            if len(made) == n: raise KeyboardInterrupt
            write(texts, path, *args)
            made.append(path)
        return stops
    monkeypatch.setattr(corpora, '_write_part', until(4))
    with pytest.raises(KeyboardInterrupt): cut(files, tmp_path/'out')
    kept = {o: (o/'train.raw').stat().st_mtime_ns for o in (tmp_path/'out'/'parts').glob('*/[0-9]*')}
    assert len(kept) == 4 and not (tmp_path/'out'/'train').exists()
    seen = {}
    monkeypatch.setattr(streams, 'counted', lambda parts: seen.update({o: (o/'train.raw').stat().st_mtime_ns for o in parts}) or corpora.counted(parts))
    monkeypatch.setattr(corpora, '_write_part', until(None))
    found = cut(files, tmp_path/'out')
    assert kept.items() <= seen.items() and len(made) == len(seen) > 6
    monkeypatch.setattr(corpora, '_write_part', None)   # nothing is left to do
    assert [ids(o) for o in cut(files, tmp_path/'out')] == [ids(o) for o in found] == [ids(o) for o in cut_anew(files, tmp_path, monkeypatch, write)]

def test_a_run_stopped_at_its_end_leaves_the_rest_to_the_next(files, tmp_path, monkeypatch):
    "Both streams stand, the manifest is missing; or all stands, and the parts are not yet put away"
    def stopped(places): raise KeyboardInterrupt
    alone, out = cut(files, tmp_path/'alone'), tmp_path/'out'
    monkeypatch.setattr(streams, '_put_away', stopped)
    with pytest.raises(KeyboardInterrupt): cut(files, out)
    monkeypatch.undo()
    assert (out/'parts').exists() and (out/'manifest.json').exists()
    (out/'manifest.json').unlink()
    assert [ids(o) for o in cut(files, out)] == [ids(o) for o in alone]
    assert sorted(o.name for o in out.iterdir()) == sorted(o.name for o in (tmp_path/'alone').iterdir())
    (out/'parts').mkdir()
    cut(files, out)
    assert not (out/'parts').exists()

def cut_anew(files, tmp_path, monkeypatch, write):
    monkeypatch.setattr(corpora, '_write_part', write)
    return cut(files, tmp_path/'anew')

def test_a_stopped_run_keeps_the_pieces_it_has_learned(files, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, 'counted', None)   # pieces need none
    monkeypatch.setattr(corpora, 'write_ids', None)
    with pytest.raises(TypeError): cut(files, tmp_path/'out', tok='bpe', max_vocab=120)
    monkeypatch.undo()
    monkeypatch.setattr(streams, 'tokenizer_for', None)
    train, _ = cut(files, tmp_path/'out', tok='bpe', max_vocab=120)
    assert train.tokenizer.config()['kind'] == 'bpe'

def test_parts_of_another_size_are_not_taken(files, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, 'counted', None)
    with pytest.raises(TypeError): cut(files, tmp_path/'out')
    monkeypatch.undo()
    made, whole = cut(files, tmp_path/'out', chars=7000), cut(files, tmp_path/'whole')
    assert [ids(o) for o in made] == [ids(o) for o in whole]

def test_the_command_hands_over_the_disks(files, tmp_path, monkeypatch, capsys):
    def corpus_streams(files, out, *args): raise CourseError(f'asked for {Path(out).name} and {args[-1]}')
    monkeypatch.setattr(streams, 'corpus_streams', corpus_streams)
    assert cli.main(['pretrain', '--corpus', str(files[0]), '--out', str(tmp_path/'lm'), '--disks', 'b', 'c']) == 1
    assert "asked for lm.streams and ['b', 'c']" in capsys.readouterr().err

def test_a_change_is_noticed(files, tmp_path):
    cut(files, tmp_path/'out')
    files[0].write_text('\n'.join(lines(199)))
    with pytest.raises(CourseError, match=r'another corpus.*one\.txt has changed since'): cut(files, tmp_path/'out')
    with pytest.raises(CourseError, match='another corpus, or other settings of it: delete'): cut(files[1:], tmp_path/'out')

def test_the_manifest_has_the_hashes(files, tmp_path):
    train, valid = cut(files, tmp_path/'out', disks=[tmp_path/'disk'])
    said = json.loads((tmp_path/'out'/'manifest.json').read_text())
    assert said['files'] == [[f.name, file_hash(f)] for f in files]
    for name, stream in (('train', train), ('valid', valid)):
        assert sum(o['n_tokens'] for o in said[name]) == len(stream)
        for shard in said[name]:
            found = np.load(shard['file'])
            assert len(found) == shard['n_tokens'] and hashlib.blake2b(found.tobytes(), digest_size=8).hexdigest() == shard['data_hash']
    Path(said['train'][1]['file']).unlink()
    with pytest.raises(CourseError, match='connect its disk'): TokenStream.load(tmp_path/'out'/'train')
    (tmp_path/'out'/'train'/'meta.json').write_text(json.dumps(train.meta | dict(shards=[3])))
    with pytest.raises(CourseError, match='is broken'): TokenStream.load(tmp_path/'out'/'train')

@pytest.mark.parametrize('backwards', [False, True])
def test_a_line_on_two_disks_gives_the_same_batches(backwards):
    line = np.random.default_rng(1).integers(0, 90, 1003).astype(np.uint16)
    vocab = [str(i) for i in range(90)]
    for share in ((0, 1), (1, 2)):
        one, two = (StreamLoader(TokenStream(o, vocab), 4, 7, backwards, shards=2, share=share) for o in (line, JoinedIds([line[:301], line[301:302], line[302:]])))
        for _ in range(2):
            pairs = list(zip(one, two, strict=True))
            assert pairs and all((a == b).all() for x, y in pairs for a, b in zip(x, y))

def test_parquet_is_read_a_batch_at_a_time(tmp_path):
    pa = pytest.importorskip('pyarrow')
    pd.DataFrame(dict(text=lines(60_000), more=np.arange(60_000))).to_parquet(tmp_path/'large.parquet', row_group_size=60_000, compression=None, use_dictionary=False)
    size, before, most = (tmp_path/'large.parquet').stat().st_size, pa.total_allocated_bytes(), 0
    for i,_ in enumerate(iter_texts(tmp_path/'large.parquet')):
        if i % 1000 == 0: most = max(most, pa.total_allocated_bytes() - before)
    assert i == 59_999 and most < size/2, (most, size)

def test_a_word_list_that_would_grow_too_long_loses_the_rarest(tmp_path):
    parts = []
    for k in range(20):
        parts.append(tmp_path/str(k))
        parts[-1].mkdir()
        words = ['often', 'seldom'][:1 + k % 2] + [f'once{k}-{i}' for i in range(50)]
        (parts[-1]/'train.json').write_text(json.dumps(dict(words=words, counts=[10]*(1 + k % 2) + [1]*50)))
    words, counts = corpora.counted(parts, most=100)
    assert dict(zip(words, counts))['often'] == 200 and dict(zip(words, counts))['seldom'] == 100 and len(words) <= 100
