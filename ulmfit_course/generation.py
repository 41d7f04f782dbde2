"""Writing text with a language model: greedy, temperature, top-k, top-p and beam search, the hidden state carried along"""
import torch
from ulmfit_course.core import CourseError
from ulmfit_course.pretraining import load_pretrained, model_of
from ulmfit_course.tokenization import BOS, PAD, UNK, FLD, WordTokenizer, detokenize, numericalize

def next_word_probs(logits, temperature=1., top_k=0, top_p=1.):
    "Probabilities of the next word `(n, vocab)` after sharpening by `temperature` and cutting to the `top_k` words or the likeliest `top_p` of the mass"
    if temperature <= 0: return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    probs = (logits/temperature).softmax(-1)
    if top_k: probs = probs.masked_fill(probs < probs.topk(min(top_k, probs.shape[-1])).values[..., -1:], 0.)
    if top_p < 1:
        sorted_probs, order = probs.sort(descending=True)
        beyond = sorted_probs.cumsum(-1) - sorted_probs >= top_p
        probs = probs.masked_fill(beyond.gather(-1, order.argsort(-1)), 0.)
    return probs/probs.sum(-1, keepdim=True)

def banned_ids(vocab): return [i for i,w in enumerate(vocab) if w in (UNK, PAD, FLD, 'xxfake')]

class Writer:
    "A language model reading on, one token at a time: logits of the next word, state carried"
    def __init__(self, model, vocab): self.model,self.vocab,self.banned = model.eval(),vocab,banned_ids(vocab)
    def start(self, ids):
        "Read the prompt `ids` (n, length); returns the logits (n, vocab) of the word after it"
        self.model.reset()
        return self.step(ids)
    def step(self, ids):
        with torch.no_grad(): logits = self.model(ids)[0][:, -1].float()
        logits[:, self.banned] = -float('inf')
        return logits
    def keep(self, rows):
        "Go on with these rows of the hidden state only"
        rnn = self.model[0]
        rnn.hidden = [(h[..., rows, :], c[..., rows, :]) for h,c in rnn.hidden]

def sample(writer, ids, n_tokens, temperature=1., top_k=0, top_p=1., generator=None):
    "Tokens `(n, length + n_tokens)`: the rows of `ids` (n, length) continued by drawing from `next_word_probs`"
    logits = writer.start(ids)
    for _ in range(n_tokens):
        probs = next_word_probs(logits, temperature, top_k, top_p)
        new = torch.multinomial(probs, 1, generator=generator)
        ids = torch.cat([ids, new], 1)
        logits = writer.step(new)
    return ids

def beam_search(writer, ids, n_tokens, beams=4):
    "The likeliest continuation of `ids` (1, length) that `beams` partial texts at a time can find; returns tokens and their total log probability"
    logp = writer.start(ids).log_softmax(-1)
    scores, words = logp[0].topk(beams)
    ids = torch.cat([ids.expand(beams, -1), words[:, None]], 1)
    writer.keep(torch.zeros(beams, dtype=torch.long))
    for _ in range(n_tokens-1):
        logp = writer.step(ids[:, -1:]).log_softmax(-1)
        scores, best = (scores[:, None] + logp).flatten().topk(beams)
        rows, words = best // logp.shape[1], best % logp.shape[1]
        ids = torch.cat([ids[rows], words[:, None]], 1)
        writer.keep(rows)
    return ids[0], scores[0].item()

def generate(model, prompt='', n_tokens=100, temperature=0.8, top_k=0, top_p=1., beams=0, n=1, seed=None, tok=None):
    "`n` texts that the language model called `model` (a name, a folder or a checkpoint) writes after `prompt`"
    if n_tokens < 1 or n < 1: raise CourseError(f"n_tokens={n_tokens}, n={n}: both must be 1 or more")
    ck = load_pretrained(model)
    if ck.config['backwards']: raise CourseError("a backward model writes from the end to the start: generate with a forward model")
    writer = Writer(model_of(ck), ck.vocab)
    ids = torch.tensor([numericalize((tok or WordTokenizer()).tokenize(prompt), ck.vocab)])
    if beams: rows = beam_search(writer, ids, n_tokens, beams)[0][None]
    else:
        gen = torch.Generator().manual_seed(seed) if seed is not None else None
        rows = sample(writer, ids.expand(n, -1), n_tokens, temperature, top_k, top_p, gen)
    return [detokenize([ck.vocab[i] for i in row]) for row in rows]
