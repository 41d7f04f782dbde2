"""What lifts ULMFiT on the mood of poems? `python experiments/tasks_poems.py`

Every way is judged twice: by cross-validation within the training poems, whose labels come from their titles, and on the
127 poems that were read. A way is chosen by the first alone; the second is looked at afterwards, in three draws of nine
tenths of the training poems. `... more labels` adds poems without a label whose titles hold a word that tells the mood of
the training poems, as many happy as sad ones; the plain baseline gets the same. All poems without labels are read where
ULMFIT_COURSE_TASKS names the folder with `poems_unsup`, else those that ship. States of poems are kept in the course's cache."""
import argparse, os, re, statistics, sys, time
from collections import Counter
from functools import cache
from pathlib import Path
import numpy as np, pandas as pd, torch

here = Path(__file__).parent
record = here/'results'/'poems.json'
moods = ['happy', 'sad']
layers = 'words', 'layer 1', 'layer 2', 'layer 3'
after_verse = 'wiki-small after verse'

@cache
def poems():
    "Training poems, those that were read, and those with a weak label of ours, none of which is nearly one of the others"
    from ulmfit_course.datasets import load_dataset
    from ulmfit_course.duplicates import near_identical
    parts = {k: g.reset_index(drop=True) for k,g in load_dataset('poems_mood').groupby('split')}
    train, test = pd.concat([parts['train'], parts['validation']], ignore_index=True), parts['test']
    verse = load_dataset('poems_unsup', folder=os.environ.get('ULMFIT_COURSE_TASKS'))
    more = weakly_labelled(verse, telling_words(train))
    group = near_identical([*train.text, *test.text, *more.text])
    known = set(group[:len(train)+len(test)])
    more = more[[g not in known for g in group[len(train)+len(test):]]]
    fewest = more.label.value_counts().min()
    return train, test, more.groupby('label').sample(fewest, random_state=0).reset_index(drop=True)

def title_words(title): return set(re.findall(r"[a-z]+", title.lower()))

def telling_words(train, least=8):
    "Word -> mood, of words in several titles of one mood and in hardly one of the other"
    counts = {m: Counter(w for t in train.title[train.label == m] for w in title_words(t)) for m in moods}
    return {w: m for m, other in (moods, moods[::-1]) for w,n in counts[m].items() if n >= least and counts[other][w] <= n/20}

def weakly_labelled(verse, tells):
    "The poems whose titles tell one mood"
    said = [{tells[w] for w in title_words(t) if w in tells} for t in verse.title]
    return verse.assign(label=[min(s) if len(s) == 1 else None for s in said]).dropna(subset='label')

class EveryLayer(torch.nn.Module):
    "What each layer of an encoder says of each word, side by side"
    def __init__(self, awd):
        super().__init__()
        self.awd, self.out = awd.eval(), []
        for rnn in awd.rnns: rnn.register_forward_hook(lambda module, given, said: self.out.append(said[0]))
    def reset(self): self.awd.reset()
    def forward(self, ids):
        self.out.clear()
        self.awd(ids)
        return torch.cat([self.awd.encoder(ids), *self.out], -1)

@cache
def states(name, direction):
    "Of every poem the last state and the largest value of the last layer, and the means of every layer"
    from ulmfit_course.backends import batches, read_and_pool
    from ulmfit_course.core import cache_dir, text_hash
    from ulmfit_course.loaders import TextToIds
    from ulmfit_course.models import model_of
    from ulmfit_course.training import weights_hash
    from ulmfit_course.vocabulary import pad
    texts, ck = [t for part in poems() for t in part.text], encoder(name, direction)
    module = EveryLayer(model_of(ck)[0])
    file = cache_dir()/'poems'/f'{text_hash([weights_hash(module.awd), *texts])}.npy'
    if not file.exists():
        ids, out = TextToIds(ck.vocab, ck.tokenizer, ck.backwards).ids(texts), {}
        for group in batches([len(o) for o in ids], 32):
            with torch.inference_mode():
                some = [ids[i] for i in group]
                pooled = read_and_pool(module, torch.from_numpy(pad(some)).long(), torch.tensor([len(o) for o in some]))
            last, most, mean = pooled.chunk(3, 1)
            emb = ck.config['arch']['emb_sz']
            out.update(zip(group, torch.cat([last[:, -emb:], most[:, -emb:], mean], 1).numpy()))
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack([out[i] for i in range(len(texts))]))
    return torch.from_numpy(np.load(file))

@cache
def encoder(name, direction):
    "A language model; after verse: as stage 2 left `wiki-small`, which read no poem of the test"
    from tasks_outputs import verse_model
    from ulmfit_course.models import in_direction
    return verse_model(direction) if name == after_verse else in_direction(name, direction)

def columns(x, which, emb=256, hidden=512):
    "`last`: what the classifier of the course pools; one of `layers`: its means; `every`: those of all layers"
    edges = np.cumsum([0, emb, emb, emb, hidden, hidden, emb])
    if which == 'every': return x[:, edges[2]:]
    if which == 'last': return torch.cat([x[:, :edges[2]], x[:, edges[5]:]], 1)
    k = 2 + layers.index(which)
    return x[:, edges[k]:edges[k+1]]

def by_words(learn, y, ask):
    "TF-IDF: the chance of the second mood for each poem that is asked"
    from ulmfit_course.evaluation import tfidf_baseline
    texts = np.array([t for part in poems() for t in part.text], dtype=object)
    train = pd.DataFrame(dict(text=texts[learn], label=[moods[k] for k in y]))
    return tfidf_baseline(train, pd.DataFrame(dict(text=texts[ask])))[0][:, 1]

def by_states(learn, y, ask, name, which):
    "A head solved for each direction, or for every layer of both, as free as does best on a fifth of what it learns from"
    from ulmfit_course.heads import SolvedHead, best_C
    pair = [columns(states(name, d), which) for d in ('fwd', 'bwd')]
    groups, kw = (pair, {}) if which == 'last' else ([torch.cat(pair, 1)], dict(emphasis=-1., pools=1))
    y = torch.from_numpy(y)
    free = [best_C(x[learn], y, torch.nn.functional.cross_entropy, **kw) for x in groups]
    return np.mean([SolvedHead(x[learn], y, C, **kw)(x[ask]).softmax(1)[:, 1].numpy() for x,C in zip(groups, free)], 0)

def alone(name, which): return lambda *a: by_states(*a, name, which)
def with_words(name, which): return lambda *a: (by_states(*a, name, which) + by_words(*a))/2

ways = {'TF-IDF': by_words}
for name in ('wiki-small', after_verse, 'imdb-small'): ways |= {f'{name}, {w} layer': alone(name, w) for w in ('last', 'every')}
ways |= {f'imdb-small, {l} alone': alone('imdb-small', l) for l in layers}
ways |= {'TF-IDF and imdb-small, every layer': with_words('imdb-small', 'every')}
with_more = 'TF-IDF', 'imdb-small, last layer', 'imdb-small, every layer', 'TF-IDF and imdb-small, every layer'

def answer(way, more, learn, ask):
    "Which of the poems that are asked are said to be of their own mood"
    train, test, weak = poems()
    y = np.array([moods.index(l) for part in poems() for l in part.label])
    extra = np.arange(len(train)+len(test), len(y)) if more else []
    learn = np.concatenate([learn, extra]).astype(int)
    return (ways[way](learn, y[learn], ask) > .5) == y[ask]

def chosen_by(way, more, repeats=3):
    "Accuracy of each of three five-fold cross-validations within the training poems"
    from sklearn.model_selection import StratifiedKFold
    train = poems()[0]
    folds = lambda r: StratifiedKFold(5, shuffle=True, random_state=r).split(train.text, train.label)
    return [float(np.concatenate([answer(way, more, a, b) for a,b in folds(r)]).mean()) for r in range(repeats)]

def tested(way, more, draws=3):
    "For each draw which of the poems that were read are answered rightly"
    train, test, _ = poems()
    n = len(train)
    drawn = [np.sort(np.random.default_rng(d).permutation(n)[:n*9//10]) for d in range(draws)]
    return np.array([answer(way, more, some, np.arange(n, n+len(test))) for some in drawn])

def interval(x, draws=2000):
    "The middle 95% of the means, were the poems drawn again"
    again = np.random.default_rng(0).integers(0, len(x), (draws, len(x)))
    return np.quantile(x[again].mean(1), [0.025, 0.975]).round(4).tolist()

def judged(way, more, plain):
    "A row of the record; `plain`: which poems the baseline with the same labels answers rightly"
    began = time.perf_counter()
    folds, right = chosen_by(way, more), tested(way, more)
    plain = right if plain is None else plain
    gain = (right.astype(float)-plain).mean(0)
    row = dict(way=way, more_labels=more, cross_validated=round(statistics.mean(folds), 4), repeats=[round(f, 4) for f in folds],
               accuracy=round(float(right.mean()), 4), draws=right.mean(1).round(4).tolist(), interval=interval(right.mean(0)),
               beside_words=round(float(gain.mean()), 4), gain_interval=interval(gain), n_test=right.shape[1],
               seconds=round(time.perf_counter()-began, 1))
    print(*(row[k] for k in ('way', 'more_labels', 'cross_validated', 'accuracy', 'gain_interval', 'seconds')), file=sys.stderr, flush=True)
    return row, right

def run():
    from ulmfit_course.core import processor, save_run
    train, test, weak = poems()
    began, rows = time.perf_counter(), []
    for more in (False, True):
        plain = None
        for way in with_more if more else ways:
            row, right = judged(way, more, plain)
            plain = right if plain is None else plain
            rows.append(row)
    sizes = dict(train=len(train), test=len(test), more_labels=len(weak), telling_words=sorted(telling_words(train)))
    save_run(record, dict(command='python experiments/tasks_poems.py', folds=5, repeats=3, draws=3),
             dict(processor=processor(), poems=sizes, rows=rows), time.perf_counter()-began)

if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    run()
