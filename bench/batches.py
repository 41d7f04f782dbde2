"Batches of a language model: 64 rows of 72 tokens, out of a corpus on disk or in memory"
import tempfile
from itertools import islice
from pathlib import Path
import numpy as np
from common import stream_of

unit, target = 'batches/s', 20
bs, seq_len = 64, 72
cases = {'2 million tokens': dict(tokens=2_000_000, n=100)}
quick = {'1 million tokens': dict(tokens=1_000_000, n=50)}
curve = dict(of='tokens', measures='seconds_each', sizes=(1_000_000, 4_000_000, 16_000_000, 64_000_000), case=lambda tokens: dict(tokens=tokens, n=100))

def corpus(tokens):
    "Ids of real reviews, again and again until there are enough"
    ids = stream_of(5000, 16_000).ids
    return np.resize(ids, tokens)

def fastai(tokens, n):
    "The reviews as tensors, item by item"
    import torch
    from fastai.text.all import LMDataLoader, LMTensorText
    ids = torch.from_numpy(corpus(tokens).astype(np.int64))
    texts = [LMTensorText(o) for o in ids.split(280)]
    dl = LMDataLoader(texts, bs=bs, seq_len=seq_len)
    return lambda: [None for _ in islice(dl, n)], n

def ours(tokens, n):
    "Views of a memory map"
    from ulmfit_course.batching import StreamLoader
    from ulmfit_course.streams import TokenStream
    folder = Path(tempfile.mkdtemp())
    np.save(folder/'ids.npy', corpus(tokens))
    stream = TokenStream(np.load(folder/'ids.npy', mmap_mode='r'), stream_of(5000, 16_000).vocab)
    (folder/'ids.npy').unlink(); folder.rmdir()   # the map stays readable until the process ends
    dl = StreamLoader(stream, bs, seq_len)
    return lambda: [None for _ in islice(dl, n)], n

def limit(machine, tokens, n):
    "Each token is read in 16 bits and written in 64"
    return machine['memory, bytes/s']/(bs*(seq_len+1)*10)

def same():
    "The same inputs and targets, batch after batch"
    import torch
    from fastai.text.all import LMDataLoader, LMTensorText
    from ulmfit_course.batching import StreamLoader
    stream = stream_of(100, 1000)[:20_001]
    theirs = LMDataLoader([LMTensorText(torch.from_numpy(stream.ids.astype(np.int64)))], bs=8, seq_len=70)
    pairs = list(zip(theirs, StreamLoader(stream, 8, 70)))
    assert len(pairs) > 30
    for a,b in pairs: assert all(torch.equal(torch.as_tensor(x), y) for x,y in zip(a, b))
