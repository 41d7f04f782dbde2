"""Every target on one encoder, beside its plain baseline: `python experiments/tasks_outputs.py [TASK ...] [--draws N]`

Each draw learns from another nine tenths of the training rows; the test rows stay the same, and nothing is chosen by them.
An answer is written into `experiments/results/outputs.json` as soon as it is known, and none is asked twice. Tasks whose
texts do not ship want a folder in ULMFIT_COURSE_TASKS (`ulmfit_course.datasets`), `films` the unpacked PyPI package
vaderSentiment 0.5 there. `emotions` is asked only where it is named: some of its comments are in coarse language."""
import argparse, json, os, statistics, sys, time
from functools import cache, partial
from pathlib import Path

here = Path(__file__).parent
record = here/'results'/'outputs.json'

@cache
def rows(name, part, *parts):
    "Rows of a data set, of one part or several"
    import pandas as pd
    from ulmfit_course.datasets import load_dataset
    return pd.concat([load_dataset(name, p) for p in (part, *parts)], ignore_index=True)

@cache
def films():
    "Sentences of film critics with twenty people's ratings of each, -4 to 4; every fifth one is for the test"
    from ulmfit_course.datasets import film_sentences
    frame = film_sentences()
    return frame[frame.index % 5 > 0].reset_index(drop=True), frame[frame.index % 5 == 0].reset_index(drop=True)

def sets(name): return lambda: (rows(name, 'train', 'validation'), rows(name, 'test'))

feelings = ['valence', 'arousal', 'dominance']
tasks = {
    'feelings': dict(data=sets('regression_emobank'), task='number', label_col=feelings, model='imdb-small', score='r'),
    'films': dict(data=films, task='number', label_col='rating', model='imdb-small', score='r'),
    'questions': dict(data=sets('pairs_question_sentence'), task='pair', model='wiki-small', score='accuracy'),
    'captions': dict(data=sets('pairs_sts_captions'), task='similarity', label_col='score', model='wiki-small', score='r'),
    'entailment': dict(data=sets('pairs_med'), task='pair', model='wiki-small', score='accuracy'),
    'emotions': dict(data=sets('multilabel_goemotions'), task='multilabel', label_col='labels', model='imdb-small', score='macro_f1', coarse=True),
    'topics': dict(data=sets('topics_sib200'), task='class', model='wiki-small', score='accuracy'),
    'poems': dict(data=sets('poems_mood'), task='class', model='wiki-small', score='accuracy'),
}

def drawn(name, draw):
    "Training rows of a draw and the test rows, read as the task asks"
    from ulmfit_course.readers import read_texts
    from ulmfit_course.targets import tasks as kinds
    t = tasks[name]
    train, test = t['data']()
    cols = ['text1', 'text2'] if kinds[t['task']][1] else 'text'
    read = partial(read_texts, text_cols=cols, label_col=t.get('label_col', 'label'), kind=kinds[t['task']][0].reads, min_classes=1)
    return read(train.sample(frac=0.9, random_state=draw).reset_index(drop=True)), read(test)

def plain(name, train, test, target, draw):
    from ulmfit_course.baselines import plain_answers
    return plain_answers(train, test, target)

def plain_overlap(name, train, test, target, draw):
    "As `plain`; of pairs besides what share of each text the other one has, by the weights of TF-IDF"
    from unittest.mock import patch
    from scipy.sparse import csr_matrix, hstack
    from ulmfit_course import baselines
    share = lambda one, other: csr_matrix(one.multiply(other > 0).sum(1)/one.sum(1).clip(1e-9))
    class Overlap(baselines.PairCounts):
        def transform(self, texts):
            a, b = (self.counts.transform(part) for part in zip(*map(baselines.fields_in, texts)))
            return hstack([super().transform(texts), share(a, b), share(b, a)]).tocsr()
    with patch.object(baselines, 'PairCounts', Overlap): return baselines.plain_answers(train, test, target)

def ours(name, train, test, target, draw, **kw):
    "Both directions, the head solved"
    from fastcore.foundation import L
    from ulmfit_course.classifier import train_classifier
    from ulmfit_course.recipes import ClassifierRecipe
    from ulmfit_course.predictors import Ensemble, TextClassifier
    t = tasks[name]
    learners = train_classifier(train, None, kw.pop('model', t['model']), direction=kw.pop('direction', 'both'), task=t['task'], label_col=t.get('label_col', 'label'),
                                recipe=ClassifierRecipe.solved(), seed=draw, max_unknown=1., **kw)
    both = Ensemble(*(TextClassifier(o.checkpoint()) for o in L(learners)))
    return both.of_texts(list(test.text), 64), both.target

@cache
def verse_model(direction, most=3000):
    "`wiki-small` after stage 2 on poems without labels, none of which is a test poem; made once"
    from ulmfit_course.core import cache_dir, profile
    from ulmfit_course.demo import demo_stage2
    from ulmfit_course.models import load_pretrained, save_checkpoint
    folder = cache_dir()/'models'/f'verse-{direction}-{most}'
    if not folder.exists():
        tested = {t[:200] for t in rows('poems_mood', 'test').text}
        from ulmfit_course.datasets import load_dataset
        poems = [t for t in load_dataset('poems_unsup', folder=os.environ.get('ULMFIT_COURSE_TASKS')).text if t[:200] not in tested]
        save_checkpoint(folder, demo_stage2(poems[:most], profile('cpu'), direction=direction))
    return load_pretrained(folder)

def after_verse(name, train, test, target, draw):
    "As `ours`, from a language model that has read verse"
    from ulmfit_course.evaluation import mean_probs
    each = [ours(name, train, test, target, draw, model=verse_model(d), direction=d) for d in ('fwd', 'bwd')]
    return mean_probs(*(a for a,_ in each)), each[0][1]

ways = {'TF-IDF': plain, 'TF-IDF, overlap': plain_overlap, 'ULMFiT': ours, 'ULMFiT after verse': after_verse}
only_for = {'TF-IDF, overlap': ('questions', 'captions', 'entailment'), 'ULMFiT after verse': ('poems',)}
def ways_of(name): return [w for w in ways if name in only_for.get(w, tasks)]

def at_half(target, test, answers):
    "Macro F1 where every label is said from one half on, not from its own threshold on"
    from ulmfit_course.targets import Labels
    return round(float(Labels(target.labels).scores(list(test.label), answers)['macro_f1']), 4)

def answer(name, way, draw):
    "The scores of one way on one draw"
    from ulmfit_course.core import set_seed
    from ulmfit_course.targets import target_for
    train, test = drawn(name, draw)
    t, began = tasks[name], time.perf_counter()
    names = t.get('label_col', 'label')
    target = target_for(t['task'], list(train.label), names if isinstance(names, list) else [names])
    set_seed(draw)
    answers, said_by = ways[way](name, train, test, target, draw)
    scores = {k: round(float(v), 4) for k,v in said_by.scores(list(test.label), answers).items()}
    if t['task'] == 'multilabel': scores['macro_f1_at_half'] = at_half(said_by, test, answers)
    each = said_by.report(list(test.label), answers).round(4).to_dict('index') if t['task'] in ('number', 'similarity') else {}
    return dict(task=name, way=way, draw=draw, n_train=len(train), **scores, seconds=round(time.perf_counter()-began, 1), **({'each': each} if each else {}))

def kept(): return json.loads(record.read_text('utf8'))['metrics']['runs'] if record.exists() else []

def ask(names, draws):
    from ulmfit_course.core import processor, save_run
    for name, draw, way in ((n, d, w) for n in names for w in ways_of(n) for d in range(draws)):
        if (name, way, draw) in {(r['task'], r['way'], r['draw']) for r in kept()}: continue
        found = answer(name, way, draw)
        runs = [*kept(), found]   # read only now: another task may have been answered meanwhile
        print(name, way, draw, runs[-1][tasks[name]['score']], f"{runs[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
        about = {k: dict(score=t['score'], task=t['task'], model=t['model']) for k,t in tasks.items()}
        save_run(record, dict(command='python experiments/tasks_outputs.py', tasks=about), dict(processor=processor(), runs=runs), sum(r['seconds'] for r in runs))

def table(runs):
    "Mean and spread over the draws, a line for each task and way"
    cells = {}
    for r in runs: cells.setdefault((r['task'], r['way']), []).append(r[tasks[r['task']]['score']])
    return [dict(task=t, way=w, score=tasks[t]['score'], mean=round(statistics.mean(v), 4), spread=round(statistics.stdev(v), 4) if len(v) > 1 else None) for (t, w), v in cells.items()]

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='TASK', help=f"{', '.join(tasks)}; all but emotions if not given")
    parser.add_argument('--draws', type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.names) - set(tasks): raise SystemExit(f"unknown task {min(unknown)!r}: choose from {', '.join(tasks)}")
    ask(args.names or [t for t in tasks if not tasks[t].get('coarse')], args.draws)
    for line in table(kept()): print(line)
