"Tokenization: raw reviews to ids, with rules, words, counting, vocabulary and numericalizing"
import tempfile
from pathlib import Path
from common import reviews

unit, target, warm_up, rounds = 'reviews/s', 8, False, 1
cases = {'25,000 reviews, one process': dict(n=25_000, procs=1), '25,000 reviews, two processes': dict(n=25_000, procs=2)}
quick = {'two processes': dict(n=1500, procs=2)}
curve = dict(of='reviews', measures='added_mb', sizes=(250, 500, 1000, 2000), case=lambda n: dict(n=n, procs=2))

def fastai(n, procs):
    "Tokens of all texts in lists, counted, then looked up"
    from fastai.text.all import Numericalize, WordTokenizer, tokenize_texts
    texts = reviews(n).text.tolist()
    def work():
        tokens = tokenize_texts(texts, n_workers=0 if procs == 1 else procs, tok=WordTokenizer())
        numericalize = Numericalize(min_freq=3, max_vocab=16_000)
        numericalize.setup(tokens)
        return numericalize.vocab, [numericalize(t) for t in tokens]
    return work, n

def ours(n, procs):
    "One pass from the texts to a stream file"
    import spacy.lang.en  # noqa: F401 (fastai has it imported, too, before it begins)
    from ulmfit_course.streams import TokenStream
    texts = reviews(n).text.tolist()
    def work():
        with tempfile.TemporaryDirectory() as tmp: return len(TokenStream.build(texts, Path(tmp)/'stream', n_procs=procs))
    return work, n

def limit(machine, n, procs):
    "No way that works by words can be faster than to look up each white-space chunk in a dictionary"
    chunks = sum(t.count(' ') + 1 for t in reviews(200).text)/200
    return procs*machine['dictionary lookups/s']/chunks

def same():
    "The same ids, text after text"
    from ulmfit_course.streams import TokenStream
    texts = reviews(60).text.tolist()
    vocab, ids = fastai(60, 1)[0]()
    with tempfile.TemporaryDirectory() as tmp:
        stream = TokenStream.build(texts, Path(tmp)/'stream', n_procs=1)
        assert [vocab[i] for text in ids for i in text] == [stream.vocab[i] for i in stream.ids]
