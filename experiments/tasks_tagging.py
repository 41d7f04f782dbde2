"""Names and answers found in text: `python experiments/tasks_tagging.py [--task ner_wikigold capitals spans ner_wnut17] [--rows ROW ...]`

Answers go into `experiments/results/tagging.json` as soon as they are known, and none is asked twice. A row is a way to tag words.
Rows are compared on the validation texts of Wikigold; the test texts are asked only of the plain baseline and of the tagger that was
chosen. `capitals` are the same texts in small letters: where did a capital stand? `spans` are questions about passages, on articles that no
training question is about; each run also says how it did by kind of question and by length of answer. `ner_wnut17` does not ship (coarse
language): it is asked where `ULMFIT_COURSE_TASKS` names a folder that holds it. A row without a draw of its own is asked once."""
import argparse, json, re, sys, time
from functools import cache, partial
from pathlib import Path

here = Path(__file__).parent
parts = 'train', 'validation', 'test'

@cache
def texts(task):
    "The parts of a task, as frames of `tokens` and `tags`, or of questions"
    import pandas as pd
    from ulmfit_course.datasets import load_dataset
    from ulmfit_course.tagging import capital_labels
    sets = {p: load_dataset(dict(capitals='ner_wikigold', spans='qa_squad_small').get(task, task), p) for p in parts}
    if task != 'capitals': return sets
    return {p: pd.DataFrame([dict(zip(('tokens', 'tags'), capital_labels(row))) for row in f.tokens]) for p,f in sets.items()}

def scheme(task): return 'plain' if task == 'capitals' else 'bio'

@cache
def reader(direction='both', layers=None):
    from ulmfit_course.models import in_direction
    from ulmfit_course.taggers import WordReader
    both = ('fwd', 'bwd') if direction == 'both' else (direction,)
    return WordReader([in_direction('wiki-small', d) for d in both], layers)

@cache
def states(task, part, direction, layers):
    "What the encoders say of each word; read once"
    return [o.half() for o in reader(direction, layers)(list(texts(task)[part].tokens))]

def learned_from(task, on, n):
    "The rows that a tagger learns from: the first `n` training texts of a shuffled order, or training and validation texts"
    import numpy as np
    which = np.random.default_rng(0).permutation(len(texts(task)['train']))[:n]
    return [('train', int(i)) for i in sorted(which)] + ([('validation', i) for i in range(len(texts(task)['validation']))] if on == 'train+validation' else [])

def frame_of(task, chosen):
    import pandas as pd
    sets = texts(task)
    return pd.DataFrame([dict(tokens=sets[p].tokens[i], tags=sets[p].tags[i]) for p,i in chosen])

def baseline(task, chosen, part, seed):
    from ulmfit_course.taggers import span_scores, tag_baseline
    test = texts(task)[part]
    return span_scores(list(test.tags), tag_baseline(frame_of(task, chosen), test, scheme=scheme(task)), scheme(task))

def tagger(task, chosen, part, seed, layers=None, **settings):
    "A tagger with some settings of its recipe changed"
    from ulmfit_course.taggers import train_tagger
    settings = dict(scheme=scheme(task), seed=seed) | settings
    direction = settings.get('direction', 'both')
    known = [states(task, p, direction, layers)[i] for p,i in chosen]
    made = train_tagger(frame_of(task, chosen), reader=reader(direction, layers), states=known, **settings)
    return made.evaluate(texts(task)[part], states=states(task, part, direction, layers))

linear = dict(hidden=0, squeeze=0, spelling=0, independent=True)
narrow, wide = linear | dict(lr=3e-2, dropout=0.3), linear | dict(lr=1e-3)   # of the rates tried, the better for 512 and for 3,072 numbers a word
words, chosen_row = 'word features', 'the tagger: and a small LSTM'
ways = {
    words: baseline,
    'last layer, forwards': partial(tagger, layers=(3,), direction='fwd', **narrow),
    'last layer, both directions': partial(tagger, layers=(3,), **narrow),
    'all layers, both directions': partial(tagger, **wide),
    'and spelling': partial(tagger, **wide | dict(spelling=64)),
    'and a CRF': partial(tagger, **wide | dict(spelling=64, independent=False)),
    chosen_row: tagger,
    'the tagger without a CRF': partial(tagger, independent=True),
    'the tagger without spelling': partial(tagger, spelling=0),
    'the tagger, forwards alone': partial(tagger, direction='fwd'),
    'the tagger, last layers alone': partial(tagger, layers=(3,)),
}

@cache
def squad(part):
    "Questions, and what the encoders say of them beside their passages; read once"
    from ulmfit_course.spans import SpanRecipe, check_questions, read_streams
    frame, read = texts('spans')[part], reader(layers=SpanRecipe().layers)
    return frame, read_streams(read, check_questions(frame, read.cut)[0])

def kind_of(question):
    "What a question asks for, by its words"
    found = re.search(r'how (?:many|much)|who|whom|whose|when|where|which|why|how|what', question.lower())
    kind = found[0] if found else 'other'
    return dict(whom='who', whose='who').get(kind, 'how many' if kind.startswith('how m') else kind)

def length_of(answers):
    "How many words the shortest right answer has"
    n = min(len(a['text'].split()) for a in answers)
    return '1 word' if n == 1 else '2 or 3' if n < 4 else '4 to 6' if n < 7 else '7 or more'

def judged(said, frame):
    "Exact match and F1 of all answers, and by what was asked"
    from ulmfit_course.spans import answer_scores
    true = [[a['text'] for a in some] for some in frame.answers]
    groups = dict(kind=frame.question.map(kind_of), length=frame.answers.map(length_of))
    rows = lambda which: answer_scores([s for s,w in zip(said, which) if w], [t for t,w in zip(true, which) if w])
    short = lambda found: {k: round(v, 4) for k,v in found.items()}
    return answer_scores(said, true) | dict(by={name: {g: short(rows(o == g)) for g in sorted(o.unique())} for name,o in groups.items()})

def overlap(task, chosen, part, seed, chunk=False):
    from ulmfit_course.spans import overlap_baseline
    test = texts(task)[part]
    return judged(overlap_baseline(texts(task)['train'].iloc[[i for _,i in chosen]], test, chunk), test)

@cache
def answerer(chosen, seed, aware):
    "Trained once, judged on several parts"
    from ulmfit_course.spans import SpanRecipe, train_spans
    frame, known = squad('train')
    some, how = frame.iloc[list(chosen)].reset_index(drop=True), dict(aware=aware, seed=seed)
    return train_spans(some, reader=reader(layers=SpanRecipe().layers), states=[known[i] for i in chosen], **how)

def answered(task, chosen, part, seed, aware='clues'):
    from ulmfit_course.spans import check_questions
    frame, known = squad(part)
    made = answerer(tuple(i for _,i in chosen), seed, aware)
    return judged([a.text for a in made.answers(check_questions(frame, made.reader.cut)[0], known)], frame)

sentence, chunk, chosen_span = 'overlap: the whole sentence', 'overlap: a name or number of it', 'and clues'
ways |= {
    sentence: overlap,
    chunk: partial(overlap, chunk=True),
    'the stream alone': partial(answered, aware='stream'),
    'and a vector of the question': partial(answered, aware='vector'),
    'and attention': partial(answered, aware='attention'),
    chosen_span: answered,
}
solved = words, sentence, chunk   # without a draw of their own

def questions(task):
    "`(row, learned from, how many, judged on)` of a task"
    n = len(texts(task)['train'])
    if task == 'spans':
        final = [(row, 'train', n, part) for part in ('validation', 'test') for row in (sentence, chunk, chosen_span)]
        return final + [(row, 'train', 1000, 'validation') for row in ways if row in list(ways)[-4:]]
    if task != 'ner_wikigold':
        rows = [words, 'all layers, both directions', chosen_row] if task == 'capitals' else [words, chosen_row]
        return [(row, 'train', n, 'test') for row in rows]
    sizes = [(row, 'train', k, 'validation') for row in (words, chosen_row) for k in (100, 300)]
    final = {on: [(row, on, n, 'test') for row in (words, chosen_row)] for on in ('train', 'train+validation')}
    return final['train'] + [(row, 'train', n, 'validation') for row in ways] + sizes + final['train+validation']

def ask(task, rows, seeds, file):
    "All answers of a task that are not known yet"
    from ulmfit_course.core import save_run
    kept = lambda: json.loads(file.read_text('utf8'))['metrics']['runs'] if file.exists() else []
    for row, on, n, part in questions(task):
        for seed in range(1 if row in solved else seeds):
            key = dict(task=task, row=row, learned=on, n=n, part=part, seed=seed)
            if (rows and row not in rows) or any(all(r[k] == v for k,v in key.items()) for r in kept()): continue
            chosen = learned_from(task, on, n)
            start = time.process_time()
            found = ways[row](task, chosen, part, seed)
            found = {k: round(v, 4) if isinstance(v, float) else v for k,v in found.items() if k != 'n'} | dict(spans=found['n'])
            run = dict(key, texts=len(chosen), **found, seconds=round(time.process_time()-start, 1))
            print(f"{task:14}{row:34}{on:18}{n:6,} {part:11} seed {seed}  F1 {run['f1']:.3f}  {run['seconds']:.0f} s", file=sys.stderr, flush=True)
            runs = [*kept(), run]
            save_run(file, dict(question='tagging', command='python experiments/tasks_tagging.py'), dict(runs=runs), sum(r['seconds'] for r in runs))
    return kept()

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--task', nargs='+', default=['ner_wikigold', 'capitals', 'spans'],
                   choices=['ner_wikigold', 'capitals', 'spans', 'ner_wnut17'])
    p.add_argument('--rows', nargs='+', choices=list(ways))
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--file', type=Path, default=here/'results'/'tagging.json')
    a = p.parse_args()
    for task in a.task: ask(task, a.rows, a.seeds, a.file)
