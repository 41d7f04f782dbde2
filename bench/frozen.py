"Training the head alone: 32 whole reviews a batch, forward through a frozen encoder"
import math
from common import fastai_classifier, full, lstm_weights, reviews, silent, small, stream_of

unit, target = 'reviews/s', None
cases = {'400/1152 x 3': dict(cfg=full, n=32), '256/512 x 3': dict(cfg=small, n=64)}
quick = {'256/512 x 3': dict(cfg=small, n=32)}

def epochs(learn, n):
    learn.freeze()
    learn.dls = type(learn.dls)(learn.dls.train.new(bs=32), [])   # no validation
    def work():
        with silent(learn): learn.fit(1, 1e-3)
        assert math.isfinite(learn.recorder.losses[-1])
    return work, n

def fastai(cfg, n):
    from fastai.text.all import AWD_LSTM, TextDataLoaders, awd_lstm_clas_config, text_classifier_learner
    frame = reviews(n+32).assign(is_valid=lambda f: f.index >= n)
    dls = TextDataLoaders.from_df(frame, text_col='text', label_col='label', valid_col='is_valid', bs=32, seq_len=72)
    return epochs(text_classifier_learner(dls, AWD_LSTM, config=dict(awd_lstm_clas_config, **cfg), pretrained=False), n)

def ours(cfg, n):
    from ulmfit_course.batching import classifier_dataloaders
    from ulmfit_course.classifier import text_classifier_learner
    frame = reviews(n+32)
    dls = classifier_dataloaders(frame[:n], frame[n:], stream_of(1000, 10_000).vocab, bs=32)
    return epochs(text_classifier_learner(dls, None, config=cfg), n)

def limit(machine, cfg, n):
    "One product with each weight a token, in the quickest type to learn in"
    tokens = len(stream_of(1000, 10_000))/1000
    return max(machine['float32, operations/s'], machine['bf16, operations/s'])/(2*sum(lstm_weights(cfg))*tokens)

def same():
    "No gradient below the head, and the weights there stay as they were"
    import torch
    from ulmfit_course.batching import classifier_dataloaders
    from ulmfit_course.classifier import text_classifier_learner
    frame, sizes = reviews(24), dict(emb_sz=12, n_hid=16, n_layers=2)
    learn = text_classifier_learner(classifier_dataloaders(frame[:16], frame[16:], stream_of(1000, 10_000).vocab, bs=8), None, config=sizes)
    learn.freeze()
    encoder = learn.model[0].module
    before = [o.detach().clone() for o in encoder.parameters()]
    with silent(learn): learn.fit(1, 1e-1)
    assert all(torch.equal(a, b) and b.grad is None for a,b in zip(before, encoder.parameters()))
    states, _ = learn.model[0](learn.dls.one_batch()[0])
    assert not states.requires_grad
