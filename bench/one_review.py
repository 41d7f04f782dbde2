"The label of one review at a time: fastai's `predict`, and ours, both from the raw text"
from batch_inference import same  # noqa: F401 (the runner asks each row for it)
from common import fastai_classifier, full, lstm_weights, multiplies_bf16, our_classifier, quickest, reviews, silent, small, tokens_a_review, where

unit, target = 'reviews/s', 5
cases = {'400/1152 x 3': dict(cfg=full, n=10), '256/512 x 3': dict(cfg=small, n=16)}
quick = {'256/512 x 3': dict(cfg=small, n=10)}
curve = dict(of='words of the review', measures='seconds_each', sizes=(50, 200, 800, 3200), case=lambda n: dict(cfg=small, n=2, words=n))

def texts_of(n, words):
    texts = reviews(200+n).text[200:].tolist()
    return texts if words is None else [' '.join((t.split()*words)[:words]) for t in texts]

def fastai(cfg, n, words=None):
    learn, texts = fastai_classifier(cfg, reviews(128)), texts_of(n, words)
    def work():
        with silent(learn):
            for t in texts: learn.predict(t)
    return work, n

def each(cfg, n, words=None, precision='auto'):
    clas, texts = our_classifier(cfg, precision), texts_of(n, words)
    return lambda: [clas.predict(t) for t in texts], n

def ours(cfg, n, words=None): return each(cfg, n, words)
def ours_in_float32(cfg, n): return each(cfg, n, precision='float32')
def ours_in_int8(cfg, n): return each(cfg, n, precision='int8')
@where(multiplies_bf16)
def ours_in_bf16(cfg, n): return each(cfg, n, precision='bf16')

def limit(machine, cfg, n, words=None):
    "The inputs of all tokens are multiplied together, the hidden states one after the other, both in the quickest type"
    inputs, hidden = lstm_weights(cfg)
    return 1/(tokens_a_review()*2*(inputs/quickest(machine) + hidden/quickest(machine, of='one vector, operations/s')))
