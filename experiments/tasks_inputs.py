"""What cleaning and augmentation are worth: `python experiments/tasks_inputs.py [cleaning] [augmentation] [--rows ROW ...] [--sizes N ...]`

Lesson 10 draws its tables from `experiments/results/inputs.json`. Two learners, TF-IDF and ULMFiT (both directions of `imdb-small`,
pooled states, a solved head), learn from the same draws of labelled reviews and judge the same test reviews. Cleaning changes the
training and the test reviews, with 1,000 labels; augmentation changes the training reviews alone, with 100, 500 and 1,000. Beside
every row stands the same learner without it, on the same draw: `gained` is how many test reviews became right by it, `lost` how
many became wrong. The row `copies` has each review twice, which is what augmentation does without a single new word.
An answer is written as soon as it is known, and none is asked twice."""
import argparse, json, os, sys, time
from functools import cache
from itertools import product
from pathlib import Path
import numpy as np, pandas as pd, torch
from evidence import some
from ulmfit_course.augmentation import ReplaceBySynonym, Synonyms, augmented, eda, ways
from ulmfit_course.backends import PooledEncoder
from ulmfit_course.cleaning import Cleaner, clean_steps, cleaned, negations, stop_words
from ulmfit_course.core import CourseError, save_run
from ulmfit_course.documents import SentenceEncoder
from ulmfit_course.evaluation import mean_probs, tfidf_baseline
from ulmfit_course.features import pooled_features
from ulmfit_course.learners import SolvedHead
from ulmfit_course.loaders import TextToIds
from ulmfit_course.models import load_pretrained, model_of

here, plain = Path(__file__).parent, 'as it is'

# --- two learners: a frame to learn from and a frame to judge, probabilities out

def tfidf(train, test): return tfidf_baseline(train, test)[0]

@cache
def reader(name):
    "An encoder, and what turns texts into its ids"
    ck = load_pretrained(name)
    return PooledEncoder(SentenceEncoder(72, model_of(ck)[0].eval())), TextToIds(ck.vocab, ck.tokenizer, ck.backwards)

def precision(): return reader('imdb-small')[0].precision   # `ULMFIT_COURSE_PRECISION` chooses another

def states(name, texts):
    encode, to_ids = reader(name)
    return pooled_features(encode, to_ids.ids(list(texts)))

def ulmfit(train, test, models=('imdb-small', 'imdb-small-backwards')):
    y = torch.from_numpy(pd.Categorical(train.label, labels).codes.astype(int))
    heads = ((SolvedHead(states(m, train.text), y), states(m, test.text)) for m in models)
    return mean_probs(*(head(x).softmax(1).numpy() for head, x in heads))

learners, labels = {'TF-IDF': tfidf, 'ULMFiT': ulmfit}, ['neg', 'pos']

# --- what is done to the reviews

cleaners = {plain: [], **{name: [name] for name in clean_steps}, 'stop_words, but for negations': ['stop_words'],
            'case and stop_words and stems': ['case', 'stop_words', 'stems'], 'all': list(clean_steps)}

def cleaning(row, train, test):
    words = stop_words() - negations if 'negations' in row else None
    clean = Cleaner(*cleaners[row], stop_words=words)
    return train.assign(text=cleaned(train.text, clean)), test.assign(text=cleaned(test.text, clean))

@cache
def any_sense(): return ReplaceBySynonym(synonyms=Synonyms('counted'))

augmenters = {plain: None, 'copies': None, **{name: name for name in ways}, 'synonyms of any sense': any_sense, "EDA's four": eda}

def augmentation(row, train, test):
    if row == plain: return train, test
    if row == 'copies': return pd.concat([train, train]), test
    op = augmenters[row]
    return augmented(train, op() if op is any_sense else op, held_out=test), test

parts = dict(cleaning=(cleaning, cleaners, (1000,)), augmentation=(augmentation, augmenters, (1000, 500, 100)))

# --- asking

@cache
def reviews(n, draw, tests): return some('train', n, draw).reset_index(drop=True), some('test', tests).reset_index(drop=True)

@cache
def done_to(part, row, n, draw, tests): return parts[part][0](row, *reviews(n, draw, tests))

@cache
def right(learner, part, row, n, draw, tests):
    "Which test reviews are judged right"
    train, test = done_to(part, row, n, draw, tests)
    return np.array(labels)[learners[learner](train, test).argmax(1)] == test.label.values

def answer(learner, part, row, n, draw, tests):
    "One run, beside the same without it"
    began = time.process_time()
    train, test = done_to(part, row, n, draw, tests)
    without, ok = (right(learner, part, r, n, draw, tests) for r in (plain, row))
    before = reviews(n, draw, tests)[1].text
    return dict(accuracy=round(float(ok.mean()), 4), gained=int((ok & ~without).sum()), lost=int((without & ~ok).sum()), n_test=len(ok),
                n_train=len(train), changed=round(float((test.text.values != before.values).mean()), 4), seconds=round(time.process_time()-began, 1))

def ask(some_parts, rows, sizes, draws, tests, some_learners, file):
    "All answers, those that were known and those that were not; a draw is complete before the next begins"
    kept = lambda: json.loads(file.read_text('utf8'))['metrics']['runs'] if file.exists() else []
    names = 'part', 'row', 'learner', 'n', 'draw', 'n_test'
    for draw, part in product(range(draws), some_parts):
        _, all_rows, all_sizes = parts[part]
        for row, n, learner in product(rows or all_rows, sizes or all_sizes, some_learners):
            if row not in all_rows or n not in all_sizes: continue
            asked = part, row, learner, n, draw, tests
            if asked in {tuple(r[k] for k in names) for r in kept()}: continue
            found = answer(learner, part, row, n, draw, tests)
            same = dict(zip(names, asked))
            runs = [r for r in kept() if any(r[k] != same[k] for k in names[:-1])] + [same | found]   # fewer test reviews give way to more
            print(f"{part:13}{row:32}{learner:8}{n:6,} draw {draw} {found['accuracy']:7.2%} +{found['gained']} -{found['lost']} "
                  f"{found['seconds']:.0f} s", file=sys.stderr, flush=True)
            config = dict(command='python experiments/tasks_inputs.py', models=['imdb-small', 'imdb-small-backwards'], precision=precision())
            save_run(file, config, dict(runs=runs), sum(r['seconds'] for r in runs))
    return kept()

def main():
    parser = argparse.ArgumentParser(description='what cleaning and augmentation are worth')
    parser.add_argument('parts', nargs='*', help='cleaning, augmentation; both if not given')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows')
    parser.add_argument('--sizes', nargs='+', type=int, metavar='N', help='only so many labels')
    parser.add_argument('--draws', type=int, default=3, help='draws of the labelled reviews (3)')
    parser.add_argument('--tests', type=int, default=1000, help='test reviews (1,000)')
    parser.add_argument('--learners', nargs='+', choices=list(learners), default=list(learners))
    parser.add_argument('--results', type=Path, default=here/'results', metavar='DIR', help='where the answers are kept')
    args = parser.parse_args()
    if unknown := {*args.parts} - {*parts}: raise SystemExit(f"unknown part {min(unknown)!r}: choose from {', '.join(parts)}")
    if unknown := {*(args.rows or ())} - {*cleaners, *augmenters}:
        raise SystemExit(f"unknown row {min(unknown)!r}: choose from {', '.join({**cleaners, **augmenters})}")
    ask(args.parts or parts, args.rows, args.sizes, args.draws, args.tests, args.learners, args.results/'inputs.json')

os.environ.setdefault('ULMFIT_COURSE_PROFILE', 'cpu')
if __name__ == '__main__':
    try: main()
    except CourseError as e: raise SystemExit(f'tasks_inputs: {e}') from None
