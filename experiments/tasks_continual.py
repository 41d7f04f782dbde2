"""What is forgotten, and what few labels buy: `python experiments/tasks_continual.py [continual] [few] [--draws N] [--tests N] [--results FOLDER]`

`continual`: is it positive? One question in three kinds of text, one after another: film reviews, poems, sentences of EmoBank (above
the median valence of its training rows or below; those at the median are left out). Texts are cut to their first 60 words.
After each kind every way is judged on the test texts of all three. How strongly L2-SP pulls is chosen on validation texts of
another draw. `few`: 2 to 100 labels a class, topics of sentences and film reviews, a frozen encoder in both directions beside TF-IDF.

Lesson 11 draws from `experiments/results/continual.json` and `few_shot.json`. An answer is written as soon as it is known, and
none is asked twice; nothing is chosen by test texts."""
import argparse, json, sys, time
from functools import cache
from pathlib import Path
import numpy as np, pandas as pd, torch
from evidence import some
from tasks_inputs import states
from ulmfit_course.backends import PooledEncoder
from ulmfit_course.core import processor, save_run, set_seed
from ulmfit_course.data import sample_rows
from ulmfit_course.datasets import load_dataset
from ulmfit_course.documents import text_classifier
from ulmfit_course.evaluation import mean_probs, tfidf_baseline
from ulmfit_course.heads import SolvedHead
from ulmfit_course.learners import text_learner
from ulmfit_course.loaders import TextToIds, classifier_dataloaders
from ulmfit_course.models import load_pretrained
from ulmfit_course.outputs import rehearsed
from ulmfit_course.recipes import ClassifierRecipe
from ulmfit_course.targets import YesNo
from ulmfit_course.training import L2SP, silent
import ulmfit_course.classifier   # noqa: F401 (patches fit_gradually in)

here = Path(__file__).parent
question, words, start = YesNo(['neg', 'pos']), 60, 'imdb-small'
recipe = ClassifierRecipe.for_labels(100, in_domain=False).but(epochs=(0, 0, 0, 2))   # a solved head, then everything is open
share, alphas = 0.2, (1., 10., 100.)

# --- three kinds of text, one question

def cut(frame): return frame.assign(text=[' '.join(t.split()[:words]) for t in frame.text])[['text', 'label']].reset_index(drop=True)

def films(part, n, draw): return some({'validation': 'valid'}.get(part, part), n, draw)

def poems(part, n, draw):
    rows = load_dataset('poems_mood', part)
    return sample_rows(rows.assign(label=rows.label.map(dict(sad='neg', happy='pos'))), min(n, len(rows)), draw)

def sentences(part, n, draw):
    median = load_dataset('regression_emobank', 'train').valence.median()
    rows = load_dataset('regression_emobank', part)
    rows = rows[rows.valence != median]
    return sample_rows(rows.assign(label=np.where(rows.valence > median, 'pos', 'neg')), min(n, len(rows)), draw)

kinds, sizes = {'film reviews': films, 'poems': poems, 'sentences': sentences}, {'film reviews': 1000, 'poems': 582, 'sentences': 1200}

@cache
def rows(kind, part, n, draw=0): return cut(kinds[kind](part, n, draw))

def learned(draw): return [rows(k, 'train', sizes[k], draw) for k in kinds]
def accuracy(p_pos, frame): return round(float(((np.asarray(p_pos) > 0.5) == (frame.label == 'pos').values).mean()), 4)

# --- ways to answer after each kind: frames of texts learned so far, the newest last, to `answers(frame)`, the probability of "pos"

def fitted(weights, new, cbs, seed):
    "The weights after training on rows, from those given, or from a solved head on the pretrained encoder"
    set_seed(seed)
    dls = classifier_dataloaders(new, new[:1], load_pretrained(start), bs=recipe.bs, window=recipe.window, target=question)
    learn = text_learner(dls, start, recipe.drop_mult, lin_ftrs=None, verbose=False, max_unknown=1., cbs=cbs)
    with silent(learn):
        if weights: learn.model.load_state_dict(weights)
        else: learn.solve_head(recipe.C)
        learn.fit_gradually(recipe.epochs, recipe.lr, recipe.factor, recipe.shares)
    return {k: v.clone() for k,v in learn.model.state_dict().items()}

@cache
def after_first(draw): return fitted(None, learned(draw)[0], [], draw)   # the same in every way

@cache
def after(k, way, draw, alpha):
    "The weights after kind `k`, which go on from those after the kind before"
    if not k: return after_first(draw)
    rows = learned(draw)
    new = rehearsed(rows[k], pd.concat(rows[:k]), share, draw) if way == 'rehearsal' else rows[k]
    return fitted(after(k-1, way, draw, alpha), new, [L2SP(alpha)]*(way == 'L2-SP'), draw)

def forget_weights():
    for f in (after_first, after): f.cache_clear()

def network(way, draw, alpha=0.):
    return lambda so_far: lambda frame: asked(after(len(so_far)-1, way, draw, alpha), frame)

def asked(weights, frame):
    "What a network with these weights answers"
    ck = load_pretrained(start)
    model = text_classifier(len(ck.vocab), 1, ck.config['arch'], lin_ftrs=None)
    model.load_state_dict(weights)
    model.eval()
    ids = TextToIds(ck.vocab, ck.tokenizer).ids(list(frame.text))
    with torch.no_grad(): logits = model[1].layers(PooledEncoder(model[0])(ids))
    return question.answers(logits)[:, 1].numpy()

def frozen(frames):
    x, y = states(start, pd.concat(frames).text), torch.from_numpy((pd.concat(frames).label == 'pos').values.astype(int))
    head = SolvedHead(x, y)
    return lambda frame: head(states(start, frame.text)).softmax(1)[:, 1].numpy()

def counted(frames):
    pipe = tfidf_baseline(pd.concat(frames, ignore_index=True), frames[0])[1]
    return lambda frame: pipe.predict_proba(frame.text)[:, list(pipe.classes_).index('pos')]

ways = {'TF-IDF, the newest': lambda draw, alpha: lambda so_far: counted(so_far[-1:]), 'TF-IDF, all': lambda draw, alpha: counted,
        'frozen, the newest': lambda draw, alpha: lambda so_far: frozen(so_far[-1:]), 'frozen, all': lambda draw, alpha: frozen,
        'in turn': lambda draw, alpha: network('in turn', draw), 'rehearsal': lambda draw, alpha: network('rehearsal', draw),
        'L2-SP': lambda draw, alpha: network('L2-SP', draw, alpha)}

def judged(answers_to, draw, part, tests, last_alone=False):
    "Accuracy on the texts of each kind after each kind"
    frames = learned(draw)
    for k, newest in list(enumerate(kinds))[2*last_alone:]:
        answers = answers_to(frames[:k+1])
        for kind in kinds:
            frame = rows(kind, part, tests)
            yield dict(after=newest, kind=kind, accuracy=accuracy(answers(frame), frame), n_test=len(frame))

def chosen_alpha(tests, draw=99):
    "The pull whose network is right most often on validation texts of all kinds, learned from another draw"
    mean = {a: float(np.mean([r['accuracy'] for r in judged(network('L2-SP', draw, a), draw, 'validation', tests, last_alone=True)])) for a in alphas}
    forget_weights()
    return max(mean, key=mean.get), {str(a): round(m, 4) for a,m in mean.items()}

def continual(file, draws, tests):
    known = kept(file)
    config = json.loads(file.read_text('utf8'))['config'] if known else {}
    if 'alpha' not in config:
        alpha, tried = chosen_alpha(min(tests, 300))
        train = learned(0)
        config = dict(command='python experiments/tasks_continual.py continual', model=start, words=words, epochs=recipe.epochs, lr=recipe.lr*recipe.shares[-1],
                      share=share, alpha=alpha, validation=tried, n_train={k: len(f) for k,f in zip(kinds, train)},
                      positive={k: round(float((f.label == 'pos').mean()), 3) for k,f in zip(kinds, train)})
        print('chosen', alpha, tried, file=sys.stderr, flush=True)
    for draw in range(draws):
        for way in ways:
            if any((r['way'], r['draw']) == (way, draw) for r in kept(file)): continue
            began = time.process_time()
            found = list(judged(ways[way](draw, config['alpha']), draw, 'test', tests))
            took = round(time.process_time()-began, 1)
            write(file, config, [dict(way=way, draw=draw, **r) for r in found], {f'{way}, {draw}': took})
            print(f'{way:20} draw {draw}', *[r['accuracy'] for r in found], f'{took:.0f} s', file=sys.stderr, flush=True)
        forget_weights()

# --- few labels

readers = {'topics': ['wiki-small', 'wiki-small-backwards'], 'film reviews': ['imdb-small', 'imdb-small-backwards']}
per_class = 2, 5, 10, 20, 50, 100

@cache
def labelled(task, tests):
    "Rows to draw from, and test rows"
    if task == 'topics': return load_dataset('topics_sib200', 'train'), load_dataset('topics_sib200', 'test')[:tests]
    return some('train', 5000).reset_index(drop=True), some('test', tests).reset_index(drop=True)

def drawn(frame, n, draw):
    "So many rows of each label, or all where there are fewer"
    return pd.concat([g.sample(min(n, len(g)), random_state=draw) for _,g in frame.groupby('label')], ignore_index=True)

def by_head(models, train, test, labels):
    y = torch.tensor([labels.index(l) for l in train.label])
    return mean_probs(*(SolvedHead(states(m, train.text), y)(states(m, test.text)).softmax(1).numpy() for m in models))

def few(file, draws, tests):
    config = dict(command='python experiments/tasks_continual.py few', states='kept by text, so seconds count new texts alone', models=readers, C=SolvedHead.__init__.__defaults__[0])
    for draw in range(draws):
        for task, models in readers.items():
            pool, test = labelled(task, tests)
            labels = sorted(set(pool.label))
            for n in per_class:
                for way in ('TF-IDF', 'ULMFiT'):
                    if any((r['task'], r['way'], r['n'], r['draw']) == (task, way, n, draw) for r in kept(file)): continue
                    began, train = time.process_time(), drawn(pool, n, draw)
                    probs = tfidf_baseline(train, test)[0] if way == 'TF-IDF' else by_head(models, train, test, labels)
                    right = float((np.array(labels)[probs.argmax(1)] == test.label.values).mean())
                    took = round(time.process_time()-began, 1)
                    run = dict(task=task, way=way, n=n, draw=draw, accuracy=round(right, 4), n_train=len(train), n_test=len(test), n_labels=len(labels))
                    write(file, config, [run], {f'{task}, {way}, {n}, {draw}': took})
                    print(task, way, n, draw, f'{right:.3f} {took:.0f} s', file=sys.stderr, flush=True)

# --- asking

def kept(file): return json.loads(file.read_text('utf8'))['metrics']['runs'] if file.exists() else []

def write(file, config, runs, seconds):
    before = json.loads(file.read_text('utf8'))['metrics'] if file.exists() else dict(runs=[], seconds={})
    seconds = before['seconds'] | seconds
    save_run(file, config, dict(processor=processor(), runs=before['runs'] + runs, seconds=seconds), sum(seconds.values()))

parts = dict(continual=(continual, 'continual.json'), few=(few, 'few_shot.json'))

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='PART', help=f"{', '.join(parts)}; both if not given")
    parser.add_argument('--draws', type=int, default=3)
    parser.add_argument('--tests', type=int, default=500, help='test texts of each kind, at most')
    parser.add_argument('--results', type=Path, default=here/'results', help='folder of the records')
    args = parser.parse_args()
    if unknown := set(args.names) - set(parts): raise SystemExit(f"unknown part {min(unknown)!r}: choose from {', '.join(parts)}")
    for name in args.names or parts:
        ask, file = parts[name]
        ask(args.results/file, args.draws, args.tests)
