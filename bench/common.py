"What the rows share: real text, the two sizes of network, and fastai's classifier"
from contextlib import ExitStack, contextmanager

full = dict(emb_sz=400, n_hid=1152, n_layers=3)   # the paper's size
small = dict(emb_sz=256, n_hid=512, n_layers=3)   # that of `wiki-small`
labels = ['neg', 'pos']

def reviews(
    n: int = 25_000,  # how many
):                    # frame with `text` and `label`
    "IMDb training reviews of all lengths, in one shuffled order"
    from ulmfit_course.data import imdb
    return imdb().sample(frac=1, random_state=0)[:n].reset_index(drop=True)

def stream_of(
    n: int,          # reviews
    max_vocab: int,  # words
):                   # a `TokenStream`
    "The reviews as one line of ids, made once"
    from ulmfit_course.batching import TokenStream
    return TokenStream.cached(reviews(n).text.tolist(), max_vocab=max_vocab, min_freq=1)

def lstm_weights(cfg):
    "How many numbers each token is multiplied by: input weights and recurrent weights of all layers"
    inner = [cfg['n_hid']]*(cfg['n_layers']-1)
    outs = [*inner, cfg['emb_sz']]
    return sum(4*o*i for i,o in zip([cfg['emb_sz'], *inner], outs)), sum(4*o*o for o in outs)

@contextmanager
def silent(learn):
    "Without progress bar and log"
    with ExitStack() as stack:
        stack.enter_context(learn.no_bar()); stack.enter_context(learn.no_logging())
        yield

def fastai_classifier(
    cfg,        # sizes
    frame,      # reviews; those after the first 64 are for validation
    vocab=None, # words, fastai's own choice if not given
):              # a learner, not trained
    "fastai's text classifier, its reviews tokenized, numericalized and sorted by length"
    from fastai.text.all import AWD_LSTM, TextDataLoaders, awd_lstm_clas_config, text_classifier_learner
    dls = TextDataLoaders.from_df(frame.assign(is_valid=frame.index >= 64), text_col='text', label_col='label', valid_col='is_valid', bs=64, seq_len=72, text_vocab=vocab)
    return text_classifier_learner(dls, AWD_LSTM, config=dict(awd_lstm_clas_config, **cfg), pretrained=False)

def our_classifier(
    cfg,        # sizes
    precision,  # what to multiply in
    weights=None,  # of a `text_classifier`, random if not given
):
    "Our predictor of the same size, not trained"
    import torch
    from ulmfit_course.classifier import text_classifier
    from ulmfit_course.core import Checkpoint
    from ulmfit_course.inference import TextClassifier
    torch.manual_seed(0)
    vocab = stream_of(1000, 10_000).vocab
    weights = weights or text_classifier(len(vocab), len(labels), cfg).state_dict()
    return TextClassifier(Checkpoint(weights, vocab, dict(arch=cfg, labels=labels, backwards=False)), precision=precision)
