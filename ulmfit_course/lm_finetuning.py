"""Stage 2: fine-tune the language model on the target text: vocabulary matching, freezing, discriminative and slanted triangular rates"""
import math
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastcore.basics import patch
from fastai.callback.rnn import rnn_cbs
from fastai.callback.schedule import ParamScheduler
from fastai.callback.training import GradientClip
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import Perplexity
from fastai.text.learner import LMLearner as FastaiLMLearner
from fastai.text.models.awdlstm import awd_lstm_lm_split
from ulmfit_course.core import Checkpoint, CourseError, load_checkpoint, save_checkpoint, text_hash
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.pretraining import evaluate_lm, fit_parts, fused_adam, load_pretrained, model_of, save_lm, speed_callbacks

def vocab_coverage(old, new):
    "Share of the words of vocabulary `new` that vocabulary `old` holds too"
    return len(set(old) & set(new))/len(set(new))

def match_vocab(ck, vocab):
    "The checkpoint with one row for each word of `vocab`: the word's own row where it has one, the mean row where it is new (ULMFiT, section 3.2)"
    if list(vocab) == ck.vocab: return ck
    old = {w: i for i,w in enumerate(ck.vocab)}
    place = torch.tensor([old.get(w, -1) for w in vocab])
    def matched(t): return torch.where((place >= 0).view(-1, *[1]*(t.dim()-1)), t[place.clamp_min(0)], t.mean(0))
    rows = [k for k,t in ck.weights.items() if t.shape[:1] == (len(ck.vocab),) and ('encoder' in k or 'decoder' in k)]
    return Checkpoint({k: matched(t) if k in rows else t for k,t in ck.weights.items()}, list(vocab), ck.config)

def check_direction(ck, backwards):
    "Refuse a model that read the text in the other direction"
    if ck.config['backwards'] != backwards:
        raise CourseError(f"the model was trained {'backwards' if ck.config['backwards'] else 'forwards'}: load it with backwards={ck.config['backwards']}, or take the model of the other direction")

class LMLearner(FastaiLMLearner):
    "fastai's language-model learner, saving checkpoints that know their vocabulary and direction"
    def checkpoint(self):
        return Checkpoint({k: v.detach().cpu() for k,v in self.model.state_dict().items()}, list(self.dls.vocab), dict(self.config, stage='lm_finetuning'))
    def save_encoder(self, path):
        "Save the whole language model as a checkpoint folder; stage 3 takes its encoder from there"
        return save_checkpoint(path, self.checkpoint())
    def predict(self, text, n_words=1, temperature=1., **kw):
        "Return `text` and the `n_words` that follow, each word costing the same"
        from ulmfit_course.generation import generate
        return generate(self.checkpoint(), text, n_tokens=n_words, temperature=temperature, **kw)[0]

def language_model_learner(dls, model='wiki-small', drop_mult=1., backwards=False, wd=0.01, clip=0.4, **kw):
    "A `Learner` that goes on training the pretrained `model` on the streams in `dls`, frozen but for the embedding"
    ck = load_pretrained(model)
    check_direction(ck, backwards)
    ck = match_vocab(ck, dls.vocab)
    learn = LMLearner(dls, model_of(ck, drop_mult), loss_func=CrossEntropyLossFlat(), splitter=awd_lstm_lm_split, opt_func=fused_adam, wd=wd,
                      moms=(0.9, 0.9, 0.9), metrics=[Perplexity()], cbs=[*speed_callbacks(), GradientClip(clip)], **kw)
    learn.config = ck.config
    learn.freeze()
    return learn

def discriminative(lr, n_groups, factor=2.6):
    "One rate per layer group, each `factor` times smaller than the one above it (ULMFiT, section 3.2)"
    return lr/factor**np.arange(n_groups)[::-1]

def slanted_triangular(pct, cut_frac=0.1, ratio=32):
    "Share of the peak rate at `pct` of the training: a short rise, a long fall, from and to 1/`ratio` (ULMFiT, equation 3)"
    p = pct/cut_frac if pct < cut_frac else 1 - (pct-cut_frac)/(1-cut_frac)
    return (1 + p*(ratio-1))/ratio

@patch
def fit_slanted_triangular(self:Learner, n_epoch, lr, cut_frac=0.1, ratio=32, start_epoch=0, cbs=()):
    "Train `n_epoch` epochs, each layer group's peak rate in `lr` shaped by `slanted_triangular`"
    if self.opt is None: self.create_opt()
    peak = np.broadcast_to(np.asarray(lr, dtype=float), (len(self.opt.hypers),))
    sched = ParamScheduler({'lr': lambda pct: peak*slanted_triangular(pct, cut_frac, ratio)})
    self.fit(n_epoch, cbs=[sched, *cbs], start_epoch=start_epoch)

def finetune_lm(model, train, valid, out, lr=3e-3, parts=10, slices=None, bs=64, seq_len=70, drop_mult=0.3, backwards=False, bar=True, factor=2.6, **card):
    "Stage 2 in one call: match the vocabulary, train all layers with discriminative slanted triangular rates, resumably, and save in `out`"
    dls = lm_dataloaders(train, valid, bs, seq_len, backwards, slices=slices or parts)
    learn = language_model_learner(dls, model, drop_mult, backwards)
    learn.unfreeze()
    rates = discriminative(lr, 4, factor)
    fit_parts(learn, Path(out).with_suffix('.training'), parts, lambda learn, done: learn.fit_slanted_triangular(parts, rates, start_epoch=done), bar)
    return save_lm(learn, out, 'lm_finetuning', learn.config['arch'], evaluate_lm(learn.model, valid, backwards=backwards), backwards, parent=str(model), **card)
