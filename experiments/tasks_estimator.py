"""What a solved head is worth to the estimator: `python experiments/tasks_estimator.py`

The draws and test texts of `evidence.py`. `seconds` are those of a processor core; of a text that was read before they are none.
The record is `experiments/results/estimator.json`; no answer is asked twice, and nothing is chosen by the test texts."""
import json, statistics, sys, time
from evidence import drawn, here, tfidf

def by_words(train, test):
    labels, probs, _ = tfidf(train, None, test, 0)[0]
    return labels[probs.argmax(1)]

def estimator(train, test, **kw):
    from ulmfit_course.estimator import ULMFiTClassifier
    return ULMFiTClassifier(**kw).fit(train.text, train.label).predict(test.text)

ways = {'TF-IDF': by_words, 'estimator': estimator, 'estimator, forwards': lambda *parts: estimator(*parts, direction='fwd'),
        'estimator, as train does': lambda *parts: estimator(*parts, recipe='auto')}
record = here/'results'/'estimator.json'

def answer(way, n, seed):
    train, _, test = drawn(n, seed)
    began = time.process_time()
    right = ways[way](train, test) == test.label.values
    found = dict(row=way, n=n, seed=seed, accuracy=round(float(right.mean()), 4), n_test=len(right), seconds=round(time.process_time()-began, 1))
    print(found, file=sys.stderr, flush=True)
    return found

def kept(): return json.loads(record.read_text('utf8'))['metrics']['runs'] if record.exists() else []

def main():
    from ulmfit_course.core import processor, save_run
    for n, way, seed in ((n, way, seed) for n in (100, 1000) for way in ways for seed in range(3)):
        if (way, n, seed) in {(r['row'], r['n'], r['seed']) for r in kept()} or (n, way) == (100, 'estimator, as train does'): continue   # which solves, too
        runs = [*kept(), answer(way, n, seed)]
        save_run(record, dict(command='python experiments/tasks_estimator.py'), dict(processor=processor(), runs=runs), sum(r['seconds'] for r in runs), None)
    for n, way in dict.fromkeys((r['n'], r['row']) for r in kept()):
        print(n, way, round(statistics.mean(r['accuracy'] for r in kept() if (r['n'], r['row']) == (n, way)), 4))

if __name__ == '__main__': main()
