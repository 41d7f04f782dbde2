"Training a language model on the CPU: forward, backward and optimizer step, with every dropout, 64 rows of 72 tokens"
from common import an_epoch, full, lstm_weights, silent, small, stream_of, to_learn

unit, target, rounds = 'tokens/s', 2, 1
bs, seq_len = 64, 72
cases = {'400/1152 x 3, 10,000 words': dict(cfg=full, words=10_000, steps=2), '256/512 x 3, 16,000 words': dict(cfg=small, words=16_000, steps=3)}
quick = {'256/512 x 3, 16,000 words': dict(cfg=small, words=16_000, steps=2)}

def fastai_lm(train, valid, cfg, bs=bs, **drop):
    "fastai's learner with its own loader, network, optimizer and loss"
    import numpy as np, torch
    from fastai.text.all import AWD_LSTM, CrossEntropyLossFlat, DataLoaders, LMDataLoader, LMLearner, LMTensorText, awd_lstm_lm_config, awd_lstm_lm_split, get_language_model
    loader = lambda s: LMDataLoader([LMTensorText(torch.from_numpy(s.ids.astype(np.int64)))], bs=bs, seq_len=seq_len)
    model = get_language_model(AWD_LSTM, len(train.vocab), dict(awd_lstm_lm_config, **cfg, **drop))
    return LMLearner(DataLoaders(loader(train), loader(valid)), model, loss_func=CrossEntropyLossFlat(), splitter=awd_lstm_lm_split)

def our_lm(train, valid, cfg, bs=bs, cbs=None, **drop):
    "The learner of lessons 05 and 06"
    from fastai.callback.rnn import rnn_cbs
    from fastai.losses import CrossEntropyLossFlat
    from ulmfit_course.awd_lstm import language_model
    from ulmfit_course.batching import lm_dataloaders
    from ulmfit_course.training import FastLearner, fused_adam, speed_callbacks
    return FastLearner(lm_dataloaders(train, valid, bs, seq_len), language_model(len(train.vocab), dict(cfg, **drop)), loss_func=CrossEntropyLossFlat(),
                   opt_func=fused_adam, cbs=[*rnn_cbs(2., 1.), *(speed_callbacks() if cbs is None else cbs)])   # AR and TAR as in the LMLearner

def passes(make, cfg, words, steps):
    stream = stream_of(2000, words)[:bs*(seq_len*steps+1)]
    learn = make(stream, stream, cfg)
    learn.create_opt()
    return an_epoch(learn), bs*seq_len*steps

def fastai(cfg, words, steps): return passes(fastai_lm, cfg, words, steps)
def ours(cfg, words, steps): return passes(our_lm, cfg, words, steps)

def operations(cfg, words):
    "Of a token: three products forward and back with each weight, decoder included"
    return 6*(sum(lstm_weights(cfg)) + cfg['emb_sz']*words)

def limit(machine, cfg, words, steps):
    "The operations of a token, in the quickest type to learn in"
    return to_learn(machine)/operations(cfg, words)

def extra():
    "Loss on unseen text after the same 50 batches of 16 rows, from the same weights, by the same optimizer, dropouts and all"
    from fastai.text.all import Adam
    from ulmfit_course.core import set_seed
    set_seed(0)
    stream = stream_of(2000, 16_000)
    train, valid = stream[:16*(seq_len*50+1)], stream[-100_000:]
    learners = dict(fastai=fastai_lm(train, valid, small, bs=16), ours=our_lm(train, valid, small, bs=16))
    learners['ours'].opt_func = Adam   # torch's, which we train with, has a smaller eps and is ahead at first
    start = {k: v.clone() for k,v in learners['fastai'].model.state_dict().items()}
    losses = {}
    for name, learn in learners.items():
        learn.model.load_state_dict(start, strict=False)
        set_seed(0)
        with silent(learn):
            learn.fit_one_cycle(1, 3e-3)   # at a flat rate either side may break out
            losses[name] = float(learn.validate()[0])
    return {'valid loss after 57,600 tokens': losses, 'ours over fastai': losses['ours']/losses['fastai']}

def same():
    "The same losses, batch after batch, from the same weights without dropout"
    from fastai.text.all import Adam
    from ulmfit_course.training import FusedLoss
    import torch
    tiny, off = dict(emb_sz=20, n_hid=24, n_layers=2), dict(output_p=0., hidden_p=0., input_p=0., embed_p=0., weight_p=1e-9)   # with 0 fastai's reset fails
    stream = stream_of(100, 1000)[:8*(seq_len*6+1)]
    theirs, mine = fastai_lm(stream, stream, tiny, bs=8, **off), our_lm(stream, stream, tiny, bs=8, cbs=[FusedLoss()], **off)
    mine.model.load_state_dict(theirs.model.state_dict(), strict=False)
    mine.opt_func = Adam
    for learn in (theirs, mine):
        with silent(learn): learn.fit(1, 1e-2)
    a, b = (torch.tensor([float(l) for l in learn.recorder.losses]) for learn in (theirs, mine))
    assert len(a) == 6 and torch.allclose(a, b, atol=1e-4), (a, b)
