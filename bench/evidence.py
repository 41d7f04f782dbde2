"""What each part of ULMFiT is worth: `ulmfit-course evidence QUESTION [--rows ROW ...] [--sizes N ...] [--seeds N]`

A question is a table: a row says what is done, a size how many labelled reviews are learned from, a seed which reviews are
drawn and where the network starts. An answer is written into `bench/results/QUESTION.json` as soon as it is known, and
none is asked twice, so a run that was stopped goes on. Learned from are training reviews, tested are all test reviews of
lesson 01, which no stage has seen; nothing is chosen by them."""
import argparse, json, os, statistics, sys, time
from functools import cache, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from ulmfit_course.cli import stage3_rates

here = Path(__file__).parent

@cache
def splits():
    from ulmfit_course.data import imdb, split
    return dict(list(split(imdb()).groupby('split')))

def drawn(n, seed):
    "Labelled reviews to learn from, some to look at while learning, and the test reviews"
    from ulmfit_course.data import sample
    parts = splits()
    draw = lambda part, n: sample(parts[part], min(n, len(parts[part])), seed).reset_index(drop=True)
    return draw('train', n), draw('valid', 60), parts['test']

# --- ways from labelled reviews to the probabilities of the test reviews

def tfidf(train, valid, test):
    from ulmfit_course.classifier import tfidf_baseline
    probs, pipe = tfidf_baseline(train, test)
    return pipe.classes_, probs

def ulmfit(train, valid, test, model='imdb-small', backwards=False, **kw):
    "Stage 3 from `model`, all else as in the demo but for `kw`"
    from ulmfit_course.awd_lstm import bf16_available
    from ulmfit_course.cli import stage3
    from ulmfit_course.inference import load_bundle, save_bundle
    learn = stage3(train, valid, model, backwards=backwards, **kw)
    with TemporaryDirectory() as tmp:
        clas = load_bundle(save_bundle(learn, f'{tmp}/bundle'), precision='bf16' if bf16_available('cpu') else 'float32')
    return clas.labels, clas.probabilities(list(test.text))

def from_scratch(train, valid, test):
    from ulmfit_course.pretraining import load_pretrained
    ck = load_pretrained('imdb-small')
    return ulmfit(train, valid, test, None, vocab=ck.vocab, config=ck.config['arch'], lr=6e-3, drop_mult=.1)

def own_stage2(train, valid, test):
    "Stage 2 on the labelled reviews alone"
    from ulmfit_course.cli import demo_stage2
    from ulmfit_course.core import profile
    return ulmfit(train, valid, test, demo_stage2(list(train.text), profile('cpu')))

def both_ways(train, valid, test, model='imdb-small'):
    from ulmfit_course.classifier import ensemble
    labels, forward = ulmfit(train, valid, test, model)
    return labels, ensemble(forward, ulmfit(train, valid, test, f'{model}-backwards', backwards=True)[1])

# --- other ways to train in stage 3

def slanted(learn, n, rates): learn.fit_slanted_triangular(n, rates)
def constant(learn, n, rates): learn.fit(n, rates)

def gradually(learn, epochs, **kw): learn.fit_gradually(epochs, **{**stage3_rates, **kw})
def at_once(learn, epochs, **kw): gradually(learn, (0, 0, 0, sum(epochs)), **kw)
def head_alone(learn, epochs, **kw): gradually(learn, (sum(epochs), 0, 0, 0), **kw)

def chain_thaw(learn, epochs):
    "The head, then each group alone from the bottom up, then all (Felbo et al., 2017)"
    import numpy as np
    learn.unfreeze()
    n = len(learn.opt.param_lists)
    for g in (n-1, *range(n-1)): learn.fit_one_cycle(1, 2e-2*np.eye(n)[g])
    at_once(learn, [max(1, sum(epochs)-n)])

def without(learn, epochs, dropouts):
    "The recipe with some dropouts off"
    from torch.nn import Dropout
    encoder, head = learn.model[0].module, learn.model[1]
    places = dict(embedding=[(encoder.encoder_dp, 'embed_p')], input=[(encoder.input_dp, 'p')], hidden=[(dp, 'p') for dp in encoder.hidden_dps],
                  weight=[(rnn, 'weight_p') for rnn in encoder.rnns], head=[(m, 'p') for m in head.modules() if isinstance(m, Dropout)])
    for name in dropouts:
        for module,p in places[name]: setattr(module, p, 0.)
    gradually(learn, epochs)

def by(fit, **kw): return partial(ulmfit, fit=partial(fit, **kw))

dropouts = 'embedding', 'input', 'hidden', 'weight', 'head'
questions = dict(
    few_labels=dict(sizes=(100, 200, 500, 1000, 2500, 5000, 20_000), rows={
        'TF-IDF': tfidf, 'from scratch': from_scratch, 'no stage 2': partial(ulmfit, model='wiki-small'),
        'stage 2 on the labelled reviews': own_stage2, 'stage 2 on all reviews': ulmfit, 'both directions': both_ways}),
    ablations=dict(sizes=(1000,), rows={
        'TF-IDF': tfidf, 'the recipe': ulmfit, 'from scratch': from_scratch, 'no stage 2': partial(ulmfit, model='wiki-small'),
        'head alone': by(head_alone), 'all layers at once': by(at_once), 'chain-thaw': by(chain_thaw),
        'one rate for all layers': by(gradually, factor=1.), 'factor 2.6': by(gradually, factor=2.6),
        'slanted triangle': by(gradually, schedule=slanted), 'constant rate': by(gradually, schedule=constant),
        'at once, one constant rate': by(at_once, factor=1., schedule=constant),
        'whole reviews, no windows': partial(ulmfit, window=None),
        **{f'no {d} dropout': by(without, dropouts=[d]) for d in dropouts}, 'no dropout': by(without, dropouts=dropouts),
        'backward': partial(ulmfit, model='imdb-small-backwards', backwards=True), 'both directions': both_ways}))

# --- asking

def answer(way, n, seed):
    "One run: what came out, and what it cost"
    from ulmfit_course.classifier import scores
    from ulmfit_course.core import set_seed
    train, valid, test = drawn(n, seed)
    set_seed(seed)
    start = time.perf_counter()
    labels, probs = way(train, valid, test)
    s = scores(labels, test.label, probs)
    return dict(accuracy=round(s['accuracy'], 4), f1=round(s['f1'], 4), n_test=s['n'], seconds=round(time.perf_counter()-start, 1))

def ask(question, rows, sizes, seeds, results):
    "All answers to a question, those that were known and those that were not"
    from ulmfit_course.core import save_run
    file = results/f'{question}.json'
    runs = json.loads(file.read_text('utf8'))['metrics']['runs'] if file.exists() else []
    known = {(r['row'], r['n'], r['seed']) for r in runs}
    for n, row, seed in product(sizes, rows, range(seeds)):
        if (row, n, seed) in known: continue
        found = answer(questions[question]['rows'][row], n, seed)
        runs.append(dict(row=row, n=n, seed=seed, **found))
        print(f"{row:34}{n:7,} labels  seed {seed}  {found['accuracy']:.2%}  {found['seconds']:.0f} s", file=sys.stderr, flush=True)
        save_run(file, dict(question=question, command=f'ulmfit-course evidence {question}'), dict(runs=runs), sum(r['seconds'] for r in runs))
    return runs

def table(runs):
    "Mean and standard deviation over the seeds, a line for each row and size"
    cells = {}
    for r in runs: cells.setdefault((r['row'], r['n']), []).append(100*r['accuracy'])
    return [dict(row=row, n=n, seeds=len(a), accuracy=round(statistics.mean(a), 2), spread=round(statistics.stdev(a), 2) if len(a) > 1 else None) for (row, n), a in cells.items()]

def main():
    parser = argparse.ArgumentParser(prog='ulmfit-course evidence', description='what each part of ULMFiT is worth')
    parser.add_argument('question', choices=list(questions))
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows')
    parser.add_argument('--sizes', nargs='+', type=int, metavar='N', help='only so many labels')
    parser.add_argument('--seeds', type=int, default=3, help='runs of each (3)')
    parser.add_argument('--results', type=Path, default=here/'results', metavar='DIR', help='where the answers are kept')
    parser.add_argument('--json', action='store_true', help='print JSON only')
    args = parser.parse_args()
    asked = questions[args.question]
    if unknown := set(args.rows or ()) - set(asked['rows']): raise SystemExit(f"unknown row {min(unknown)!r}: choose from {', '.join(asked['rows'])}")
    lines = table(ask(args.question, args.rows or asked['rows'], args.sizes or asked['sizes'], args.seeds, args.results))
    if args.json: return print(json.dumps(lines))
    for l in lines: print(f"{l['row']:34}{l['n']:7,} labels  {l['accuracy']:.1f}{'' if l['spread'] is None else ' ± %.1f' % l['spread']}  ({l['seeds']} seeds)")

os.environ.setdefault('ULMFIT_COURSE_PROFILE', 'cpu')
if __name__ == '__main__': main()
