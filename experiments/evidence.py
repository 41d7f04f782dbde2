"""What each part of ULMFiT is worth: `ulmfit-course evidence QUESTION [--rows ROW ...] [--sizes N ...] [--seeds N]`

A question is a table: a row says what is done, a size how many labelled reviews are learned from, a seed which reviews are
drawn and where the network starts. An answer is written into `experiments/results/QUESTION.json` as soon as it is known, and
none is asked twice, so a run that was stopped goes on. Learned from are training reviews, tested are all test reviews of
lesson 01, which no stage has seen; nothing is chosen by them.

`few_labels` is the paper's figure 3; its last row is the recipe. `directions` adds a classifier that reads from the end, and
averages the two; its first row is what `ulmfit-course train` does. `heads` compares a head that is trained with one that
is solved, and averages a classifier of each; `ablations` changes one thing of the recipe's stage 3, `stage2` one of stage 2.
All these but `directions` also ask what the language model still knows of Wikipedia. `tokens` trains small language models from
nothing, in words and in pieces of words. `sentences` and `topics` are other tasks: sentences of film critics, and news to be
sorted (`ulmfit_course.data.reuters` says where they are to be had)."""
import argparse, json, os, statistics, sys, time
from functools import cache, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from ulmfit_course.recipes import ClassifierRecipe

here = Path(__file__).parent

@cache
def splits(source='imdb'):
    from ulmfit_course import data, readers
    return dict(list(data.split(getattr(readers, source)()).groupby('split')))

def some(part, n, seed=0, source='imdb'):
    "So many rows of a split, or all where there are fewer"
    from ulmfit_course.data import sample_rows
    rows = splits(source)[part]
    return sample_rows(rows, min(n, len(rows)), seed)

def drawn(n, seed, source='imdb'):
    "Labelled texts to learn from, some to look at while learning, and the test texts"
    draw = lambda part, n: some(part, n, seed, source).reset_index(drop=True)
    return draw('train', n), draw('valid', 60), splits(source)['test']

# --- what a language model knows

def on_wikipedia(lm, ck, n=20):
    "Perplexity on `n` articles of the language model `lm`, whose words, tokenizer and direction are those of `ck`"
    from ulmfit_course.pretraining import evaluate_lm, wiki_sample
    from ulmfit_course.streams import TokenStream
    with TemporaryDirectory() as tmp:
        return round(evaluate_lm(lm, TokenStream.build(wiki_sample()[:n], f'{tmp}/stream', ck.tokenizer, ck.vocab), backwards=ck.backwards)['perplexity'], 2)

def remembered(learn, ck):
    "The same after stage 3: the classifier's encoder under the decoder that `ck` had"
    from ulmfit_course.models import model_of
    lm = model_of(ck)
    lm[0].load_state_dict(learn.model[0].module.state_dict())
    return dict(wikipedia_after=on_wikipedia(lm, ck))

# --- ways from labelled texts to answers: for each classifier the classes, the probabilities of the test texts, and what else was measured

def tfidf(train, valid, test, seed):
    from ulmfit_course.evaluation import tfidf_baseline
    probs, pipe = tfidf_baseline(train, test)
    return [(pipe.classes_, probs, {})]

def ulmfit(train, valid, test, seed, model='imdb-small', more=remembered, **kw):
    "`train_classifier` from `model`, as `ulmfit-course train` does it but for `kw`; both directions are two answers"
    from ulmfit_course.classifier import train_classifier
    from ulmfit_course.models import in_direction
    learners = train_classifier(train, valid, model, seed=seed, **kw)
    learners = learners if isinstance(learners, list) else [learners]
    return [(learn.labels, said(learn, test), more(learn, in_direction(model, learn.config['direction'])) if model else {}) for learn in learners]

def said(learn, test):
    "The probabilities of the test texts, by the bundle that a user would have"
    from ulmfit_course.inference import load_bundle, save_bundle
    from ulmfit_course.training import bf16_available
    with TemporaryDirectory() as tmp:
        return load_bundle(save_bundle(learn, f'{tmp}/bundle'), precision='bf16' if bf16_available('cpu') else 'float32').probabilities(list(test.text))

def stage2_on(texts, seed=0):
    "Stage 2 as in the demo"
    from ulmfit_course.core import profile
    from ulmfit_course.demo import demo_stage2
    return demo_stage2(list(texts), profile('cpu'), seed=seed)

@cache
def stage2_of(source):
    "The same on the text of all training rows"
    return stage2_on(splits(source)['train'].text)

@cache
def words_of(source):
    "Of the text of all training rows"
    from ulmfit_course.streams import TokenStream
    with TemporaryDirectory() as tmp: return TokenStream.build(splits(source)['train'].text, f'{tmp}/stream', max_vocab=16_000).vocab

def from_scratch(train, valid, test, seed, source=None):
    "The network of `imdb-small` and its words, or those of `source`, without its weights"
    from ulmfit_course.models import load_pretrained
    ck = load_pretrained('imdb-small')
    return ulmfit(train, valid, test, seed, None, vocab=words_of(source) if source else ck.vocab, config=ck.config['arch'], lr=6e-3, drop_mult=.1)

def trained_head(train, valid, test, seed, **kw):
    "Two layers, trained for an epoch, then one layer group more each epoch, then all: the head and rates of the recipe for many labels"
    return ulmfit(train, valid, test, seed, recipe=ClassifierRecipe(epochs=(1, 1, 1, max(2, min(20, 7000//len(train))))), **kw)

solved = partial(ulmfit, recipe=ClassifierRecipe.for_labels(100))   # a linear head on the encoder as stage 2 left it

def own_stage2(train, valid, test, seed):
    "Stage 2 on the labelled texts alone"
    return ulmfit(train, valid, test, seed, stage2_on(train.text, seed))

def unlabelled_stage2(train, valid, test, seed, source):
    "Stage 2 on the text of all training rows of `source`, made once: its seconds count in the first answer"
    return ulmfit(train, valid, test, seed, stage2_of(source))

# --- other ways to train in stage 2

def short_stage2(train, valid, test, seed, fit=None, texts=2000):
    "`fit(learn)` on the text of some training reviews, in the words of `wiki-small`, so that its perplexities can be compared; a solved head on that encoder"
    from ulmfit_course.batching import lm_dataloaders
    from ulmfit_course.learners import language_model_learner
    from ulmfit_course.models import load_pretrained
    from ulmfit_course.pretraining import evaluate_lm
    from ulmfit_course.streams import TokenStream
    from ulmfit_course.training import silent
    ck = load_pretrained('wiki-small')
    with TemporaryDirectory() as tmp:
        stream = lambda part, n: TokenStream.build(some(part, n).text, f'{tmp}/{part}', ck.tokenizer, ck.vocab)
        learn = language_model_learner(lm_dataloaders(stream('train', texts), stream('valid', texts//5), bs=32, seq_len=70), ck, .1, verbose=False)
        if fit:
            with silent(learn): fit(learn)
        known = dict(reviews=round(evaluate_lm(learn.model, learn.dls.valid.stream)['perplexity'], 2), wikipedia=on_wikipedia(learn.model, ck))
    return solved(train, valid, test, seed, learn.checkpoint(), more=lambda *_: known)

def outer(learn, lr=3e-3):
    "Embedding and decoder alone; everything between stays frozen"
    learn.fit_slanted_triangular(1, lr)

def whole(learn, factor=1., schedule=None, lr=3e-3):
    "All layers, each learning `factor` times slower than the one above"
    from ulmfit_course.lm_finetuning import discriminative
    learn.unfreeze()
    schedule(learn, 1, discriminative(lr, len(learn.splitter(learn.model)), factor))

# --- words, or pieces of words

def in_tokens(train, valid, test, seed, kind='words', size=16_000, texts=5000):
    "Stage 1 from nothing, on the text of some training reviews in tokens of a kind; a solved head on that encoder"
    from ulmfit_course.pretraining import pretrain
    from ulmfit_course.streams import TokenStream, tokenizer_for
    read, held = list(some('train', texts).text), list(some('valid', texts//10).text)
    tok = tokenizer_for(kind, read, size)
    with TemporaryDirectory() as tmp:
        stream = TokenStream.build(read, f'{tmp}/train', tok, max_vocab=size)
        unseen = TokenStream.build(held, f'{tmp}/valid', tok, vocab=stream.vocab)
        ck = pretrain(stream, unseen, f'{tmp}/lm', epochs=2, shards=1, bs=32, seed=seed, bar=False)
        card = ck.config['card']
        known = dict(words=len(ck.vocab), tokens_read=len(stream), unknown=round(unseen.oov_rate, 4), perplexity=round(card['perplexity'], 2),
                     nats_a_character=round(card['valid_loss']*card['valid_tokens']/sum(map(len, held)), 4))
    return solved(train, valid, test, seed, ck, more=lambda *_: known)

# --- other ways to train in stage 3: `fit(learn, recipe)`

def slanted(learn, n, rates): learn.fit_slanted_triangular(n, rates)
def constant(learn, n, rates): learn.fit(n, rates)

def gradually(learn, r, schedule=None): learn.fit_gradually(r.epochs, r.lr, r.factor, r.shares, schedule)
def at_once(learn, r, **kw): gradually(learn, r.but(epochs=(0, 0, 0, sum(r.epochs))), **kw)
def head_alone(learn, r, **kw): gradually(learn, r.but(epochs=(sum(r.epochs), 0, 0, 0)), **kw)

def chain_thaw(learn, r):
    "The head, then each group alone from the bottom up, then all (Felbo et al., 2017)"
    import numpy as np
    learn.unfreeze()
    n = len(learn.opt.param_lists)
    for g in (n-1, *range(n-1)): learn.fit_one_cycle(1, r.lr*np.eye(n)[g])
    at_once(learn, r.but(epochs=(0, 0, 0, max(1, sum(r.epochs)-n))))

def without(learn, r, dropouts):
    "The recipe with some dropouts off"
    from torch.nn import Dropout
    encoder, head = learn.model[0].module, learn.model[1]
    places = dict(embedding=[(encoder.encoder_dp, 'embed_p')], input=[(encoder.input_dp, 'p')], hidden=[(dp, 'p') for dp in encoder.hidden_dps],
                  weight=[(rnn, 'weight_p') for rnn in encoder.rnns], head=[(m, 'p') for m in head.modules() if isinstance(m, Dropout)])
    for name in dropouts:
        for module,p in places[name]: setattr(module, p, 0.)
    gradually(learn, r)

def by(fit, settings=None, **kw): return partial(ulmfit, fit=partial(fit, **kw), **settings or {})
def first(fit, **kw): return partial(short_stage2, fit=partial(fit, **kw))

def target(source, sizes):
    "The starts, for another task"
    return dict(sizes=sizes, source=source, rows={
        'TF-IDF': tfidf, 'from scratch': partial(from_scratch, source=source), 'wiki-small': partial(ulmfit, model='wiki-small'), 'imdb-small': ulmfit,
        'wiki-small, stage 2 on the task': partial(unlabelled_stage2, source=source)})

dropouts = 'embedding', 'input', 'hidden', 'weight', 'head'
questions = dict(
    few_labels=dict(sizes=(100, 200, 500, 1000, 2500, 5000, 20_000), rows={
        'TF-IDF': tfidf, 'from scratch': from_scratch, 'no stage 2': partial(ulmfit, model='wiki-small'),
        'stage 2 on the labelled reviews': own_stage2, 'stage 2 on all reviews': ulmfit}),
    directions=dict(sizes=(100, 1000), rows={
        'both directions': partial(ulmfit, direction='both'),
        'both directions, both trained': partial(trained_head, direction='both')}),
    heads=dict(sizes=(100, 1000), rows={
        'two layers, trained': trained_head, 'linear, solved': solved, 'one of each, averaged': (trained_head, solved)}),
    ablations=dict(sizes=(1000,), rows={
        'head alone': by(head_alone), 'all layers at once': by(at_once), 'chain-thaw': by(chain_thaw),
        'one rate for all layers': partial(ulmfit, factor=1.), 'factor 2.6': partial(ulmfit, factor=2.6),
        'slanted triangle': by(gradually, schedule=slanted), 'constant rate': by(gradually, schedule=constant),
        'at once, one constant rate': by(at_once, dict(factor=1.), schedule=constant),
        'whole reviews, no windows': partial(ulmfit, window=10_000),
        **{f'no {d} dropout': by(without, dropouts=[d]) for d in dropouts}, 'no dropout': by(without, dropouts=dropouts)}),
    stage2=dict(sizes=(1000,), rows={
        'none': short_stage2, 'embedding and decoder alone': first(outer), 'all layers, one constant rate': first(whole, schedule=constant),
        'discriminative rates': first(whole, factor=2.6, schedule=constant), 'discriminative rates, slanted triangle': first(whole, factor=2.6, schedule=slanted),
        'one rate, slanted triangle': first(whole, schedule=slanted)}),
    tokens=dict(sizes=(1000,), rows={
        'words': in_tokens, **{f'pieces, {n:,}': partial(in_tokens, kind='bpe', size=n) for n in (8000, 2000)}}),
    sentences=target('rotten_tomatoes', (100, 1000, 6000)), topics=target('reuters', (100, 1000, 5000)))

# --- asking

def answer(ways, n, seed, source='imdb'):
    "One run: what came out, and the processor seconds that it cost; the probabilities of several classifiers are averaged"
    from ulmfit_course.core import set_seed
    from ulmfit_course.evaluation import mean_probs, scores
    train, valid, test = drawn(n, seed, source)
    start, found = time.process_time(), []
    for way in ways if isinstance(ways, tuple) else (ways,):
        set_seed(seed)
        found += way(train, valid, test, seed)
    labels, _, more = found[0]
    each = [probs for _, probs, _ in found]
    judged = lambda *probs: scores(labels, test.label, mean_probs(*probs))
    if len(each) > 1: more = dict(alone=[round(judged(o)['accuracy'], 4) for o in each])
    s = judged(*each)
    return dict(accuracy=round(s['accuracy'], 4), f1=round(s['f1'], 4), n_test=s['n'], seconds=round(time.process_time()-start, 1), **more)

def ask(question, rows, sizes, seeds, results):
    "All answers to a question, those that were known and those that were not"
    from ulmfit_course.core import save_run
    file, asked = results/f'{question}.json', questions[question]
    kept = lambda: json.loads(file.read_text('utf8'))['metrics']['runs'] if file.exists() else []   # two processes may share the work
    for n, row, seed in product(sizes, rows, range(seeds)):
        if (row, n, seed) in {(r['row'], r['n'], r['seed']) for r in kept()}: continue
        found = answer(asked['rows'][row], n, seed, asked.get('source', 'imdb'))
        runs = [*kept(), dict(row=row, n=n, seed=seed, **found)]
        print(f"{row:34}{n:7,} labels  seed {seed}  {found['accuracy']:.2%}  {found['seconds']:.0f} s", file=sys.stderr, flush=True)
        save_run(file, dict(question=question, command=f'ulmfit-course evidence {question}'), dict(runs=runs), sum(r['seconds'] for r in runs))
    return kept()

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
if __name__ == '__main__':
    from ulmfit_course.core import CourseError
    try: main()
    except CourseError as e: raise SystemExit(f'evidence: {e}') from None
