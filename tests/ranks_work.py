"What tests/test_ranks.py lets several processes do: python ranks_work.py OUT ROWS CRASH [resume] [stages]"
import json, os, signal, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from fastai.callback.core import Callback
from ulmfit_course.awd_lstm import language_model, small_config
from ulmfit_course.core import CourseError
from ulmfit_course.models import Checkpoint, words_en
from ulmfit_course.pretraining import pretrain
from ulmfit_course.ranks import by_first, from_all, n_ranks, rank, speaks, together
from ulmfit_course.recipes import ClassifierRecipe, FinetuneRecipe, LMRecipe
from ulmfit_course.schema import load_tensors
from ulmfit_course.streams import TokenStream
from ulmfit_course.vocabulary import make_vocab

words = [f'word{i}' for i in range(52)]
vocab = make_vocab(words, [5]*52, 1, 1000)
sizes = small_config | dict(emb_sz=16, n_hid=24, n_layers=2)

def text_of(n, seed):
    "A text in which each word says much about the next one"
    rng, place, ids = np.random.default_rng(seed), 0, []
    for jump in rng.integers(0, 3, n): ids.append(place := (5*place + jump) % 52)
    return [words[i] for i in ids]

def stream_of(n, seed): return TokenStream(np.array([vocab.index(w) for w in text_of(n, seed)], dtype=np.uint16), vocab, {})

def untrained():
    torch.manual_seed(0)
    kept = dict(format=2, stage='pretraining', arch=sizes, direction='fwd', tokenizer=words_en, card={})
    return Checkpoint(language_model(len(vocab), sizes).state_dict(), vocab, kept)

class Watch(Callback):
    "The widths of the chunks, and a rank that is killed"
    def __init__(self, crash): self.widths, self.crash = [], crash
    def before_batch(self):
        if not self.training: return
        self.widths.append(self.xb[0].shape[1])
        if self.crash and rank() == n_ranks()-1 and len(self.widths) == self.crash: os.kill(os.getpid(), signal.SIGKILL)

def lm(out, rows, crash=0):
    "Two hundred steps of stage 1: the losses, the widths of each rank's chunks, the weights"
    watch = Watch(crash)
    recipe = LMRecipe(epochs=4, shards=2, bs=rows//n_ranks(), seq_len=10, lr=2e-2, num_sampled=0, variable_bptt=True)
    card = pretrain(stream_of(8*1000+1, 0), stream_of(2000, 1), out, recipe, sizes, bar=False, cbs=[watch]).config['card']
    weights = load_tensors(Path(f'{out}.training')/'training.pth', '')['model']
    return dict(curve=card['curve'], perplexity=card['perplexity'], widths=from_all(watch.widths), weights=numbers(weights))

def numbers(weights): return {k: v.tolist() for k,v in weights.items() if v.dtype == torch.float32}

def finetuned(out, rows):
    from ulmfit_course.lm_finetuning import finetune_lm
    recipe = FinetuneRecipe(epochs=1, bs=rows//n_ranks(), seq_len=10, num_sampled=20)
    masks = Masks()
    card = finetune_lm(untrained(), stream_of(4000, 2), stream_of(500, 3), out, recipe, bar=False, cbs=[masks]).config['card']
    return dict(curve=card['curve'], tokens_seen=card['tokens_seen'], masks=from_all(masks.first))

class Masks(Callback):
    "Which units the first batch has lost"
    first = None
    def after_pred(self):
        if self.training and self.first is None: self.first = self.pred[0][0].eq(0).flatten().nonzero().flatten().tolist()

def frame(n, seed):
    "Texts of which the first word says the label"
    texts = [text_of(5 + (i*7) % 23, [seed, i]) for i in range(n)]
    return pd.DataFrame(dict(text=[' '.join(t) for t in texts], label=['low' if int(t[0][4:]) < 1 else 'high' for t in texts]))

def without_dropout(learn, r):
    "By plain gradient descent: AdamW makes a whole step of a gradient that is zero but for rounding"
    from fastai.optimizer import SGD
    for m in learn.model.modules():
        if isinstance(m, torch.nn.Dropout): m.p = 0.
    learn.opt_func, learn.opt, learn.began = SGD, None, numbers(learn.model.state_dict())
    learn.fit_gradually(r.epochs, r.lr, r.factor, r.shares)

def classified(rows, lin_ftrs):
    "Stage 3, by gradients or solved: the weights, the scores, the bytes"
    from ulmfit_course.classifier import train_classifier
    recipe = ClassifierRecipe(epochs=(1, 0, 0, 2) if lin_ftrs else (0, 0, 0, 0), lr=0.2, lin_ftrs=lin_ftrs, bs=rows//n_ranks(), drop_mult=0., window=10_000)
    learn = train_classifier(frame(32, 4), frame(12, 5), untrained(), recipe, max_unknown=1., fit=without_dropout)
    with learn.no_bar(): scores = [float(v) for v in learn.validate()]
    return dict(start=learn.began, weights=numbers(learn.model.state_dict()), scores=scores, sent=(s := getattr(learn, 'sent', None)) and [s.sent, s.whole])

def work(out, rows, crash, asked):
    found = dict(lm=lm(out/'lm', rows, crash))
    if 'resume' in asked: found['resumed'] = lm(out/'stopped', rows)
    if 'stages' in asked: found |= dict(finetuned=finetuned(out/'ft', rows), classified=classified(rows, 10), solved=classified(rows, None))
    by_first(lambda: (out/'found.json').write_text(json.dumps(found)))

if __name__ == '__main__':
    out, rows, crash, *asked = sys.argv[1:]
    try:
        with together(): work(Path(out), int(rows), int(crash), asked)
    except CourseError as e:
        if speaks(): print(e, file=sys.stderr)
        sys.exit(1)
