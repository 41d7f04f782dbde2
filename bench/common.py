"What the rows share: real text, the two sizes of network, and fastai's classifier"
import math
from contextlib import contextmanager

full = dict(emb_sz=400, n_hid=1152, n_layers=3)   # the paper's size
small = dict(emb_sz=256, n_hid=512, n_layers=3)   # that of `wiki-small`
labels = ['neg', 'pos']

def reviews(
    n: int = 25_000,  # how many
):                    # frame with `text` and `label`
    "IMDb training reviews of all lengths, in one shuffled order"
    from ulmfit_course.readers import imdb
    return imdb().sample(frac=1, random_state=0)[:n].reset_index(drop=True)

def stream_of(
    n: int,          # reviews
    max_vocab: int,  # words
):                   # a `TokenStream`
    "The reviews as one line of ids, made once"
    from ulmfit_course.streams import TokenStream
    return TokenStream.cached(reviews(n).text.tolist(), max_vocab=max_vocab, min_freq=1)

def words_of_10_000(): return stream_of(1000, 10_000).vocab

def tokens_a_review(): return len(stream_of(1000, 10_000))/1000

def lstm_weights(cfg):
    "How many numbers each token is multiplied by: input weights and recurrent weights of all layers"
    inner = [cfg['n_hid']]*(cfg['n_layers']-1)
    outs = [*inner, cfg['emb_sz']]
    return sum(4*o*i for i,o in zip([cfg['emb_sz'], *inner], outs)), sum(4*o*o for o in outs)

@contextmanager
def silent(learn):
    "Without progress bar and log"
    with learn.no_bar(), learn.no_logging(): yield

def an_epoch(learn):
    "Work: one pass over the training texts, without validation"
    learn.dls = type(learn.dls)(learn.dls.train, [])
    def work():
        with silent(learn): learn.fit(1, 1e-3)
        assert math.isfinite(learn.recorder.losses[-1])
    return work

def quickest(machine, kinds=('float32', 'bf16', 'int8'), of='operations/s'):
    "Operations a second in the quickest of the types that this machine multiplies by itself"
    return max(machine.get(f'{kind}, {of}', 0) for kind in kinds)

def to_learn(machine): return quickest(machine, ('float32', 'bf16'))

def multiplies_bf16():
    from ulmfit_course.training import bf16_available
    return bf16_available('cpu')

def where(there):
    "Mark a side that some machines leave out: `there()` says whether this one has it"
    def marked(side):
        side.there = there
        return side
    return marked

def fastai_classifier(
    cfg,        # sizes
    frame,      # reviews
    vocab=None, # words, fastai's own choice if not given
    n_train=64, # the reviews after the first so many are for validation
    bs=64,      # reviews of a batch
    **settings, # of the learner
):              # a learner, not trained
    "fastai's text classifier, its reviews tokenized, numericalized and sorted by length"
    from fastai.text.all import AWD_LSTM, TextDataLoaders, awd_lstm_clas_config, text_classifier_learner
    dls = TextDataLoaders.from_df(frame.assign(is_valid=frame.index >= n_train), text_col='text', label_col='label', valid_col='is_valid', bs=bs, seq_len=72, text_vocab=vocab)
    return text_classifier_learner(dls, AWD_LSTM, config=dict(awd_lstm_clas_config, **cfg), pretrained=False, **settings)

def our_classifier(
    cfg,        # sizes
    precision='auto',  # what to multiply in
):
    "Our predictor of the same size, not trained"
    import torch
    from ulmfit_course.documents import text_classifier
    from ulmfit_course.models import Checkpoint, words_en
    from ulmfit_course.predictors import TextClassifier
    torch.manual_seed(0)
    vocab = words_of_10_000()
    weights, task = text_classifier(len(vocab), len(labels), cfg).state_dict(), dict(kind='classification', labels=labels)
    return TextClassifier(Checkpoint(weights, vocab, dict(format=2, arch=cfg, direction='fwd', tokenizer=words_en, task=task, head={})), precision=precision)
