"Texts that nobody should write, and every way in. Each function gives a record whose `faults` shall be empty"
import contextlib, io, json, random, re, sys, tempfile, unicodedata
from itertools import islice
from pathlib import Path
import numpy as np, pandas as pd, torch
from commands import review
from ulmfit_course import cli
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.core import CourseError
from ulmfit_course.evaluation import predictions
from ulmfit_course.generation import generate
from ulmfit_course.inference import load_bundle
from ulmfit_course.learners import text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import load_checkpoint
from ulmfit_course.streams import TokenStream
from ulmfit_course.tokenization import WordTokenizer, apply_rules
from ulmfit_course.tokenizer_base import spacy_words
from ulmfit_course.vocabulary import special_tokens, word_ids

# Texts

spaces = [*'\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2028\u2029\u202f\u3000', '\r\n', '\ufeff', '\u200b', '\u200d', '\u2060']
markup = ['<br />', '<script>alert(1)</script>', '<img src=x onerror=alert(1)>', '</td>', '<!--', '&amp;', '&lt;b&gt;', '&#0;', '&#x110000;', '&nbsp', '#39;', '<unk>', '$\\frac{1}{2}$', '%s', '{}', '\\n', '\\"']
terminal = ['\x1b[31m', '\x1b]0;title\x07', '\x1b[2J', '\x08\x08', '\x00', '\x7f', '\x9b1m', '\u202eevil\u202c']
emoji = ['\U0001f600', '\U0001f469\u200d\U0001f467', '\U0001f1e9\U0001f1ea', 'e\u0301', 'z' + '\u0335\u0321'*30, '\ufe0f']
halves = ['\ud83d', '\ude00', '\ud800\udc00'[::-1], '\udcff']

def any_letter(rng):
    "Of the whole of Unicode, but halves of pairs"
    while True:
        c = chr(rng.choice((rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x110000))))
        if unicodedata.category(c) != 'Cs': return c

kinds = {   # what a piece of a text may be
    'letters': lambda rng: ''.join(any_letter(rng) for _ in range(rng.randint(1, 30))),
    'controls': lambda rng: ''.join(chr(rng.randrange(32)) for _ in range(rng.randint(1, 10))),
    'spaces': lambda rng: ''.join(rng.choice(spaces) for _ in range(rng.randint(1, 10))),
    'special words': lambda rng: ' '.join(rng.choice([*special_tokens, 'xxrep 9 a', 'xxwrep 99999999999 no', 'xxfake', 'XXBOS', 'xxpad'*3]) for _ in range(rng.randint(1, 6))),
    'markup': lambda rng: ''.join(rng.choice(markup) for _ in range(rng.randint(1, 6))),
    'terminal': lambda rng: ''.join(rng.choice(terminal) for _ in range(rng.randint(1, 5))),
    'emoji': lambda rng: ''.join(rng.choice(emoji) for _ in range(rng.randint(1, 8))),
    'halves': lambda rng: rng.choice(halves),
    'signs': lambda rng: ''.join(rng.choice('.,:;!?()[]{}-_/\\#@\'"*+=~^|$%&<>') for _ in range(rng.randint(1, 40))),
    'one sign': lambda rng: rng.choice('a.!-=\u3002\U0001f600 ')*rng.choice((2, 3, 50, 2000)),
    'one word': lambda rng: f"{rng.choice(['no', 'No', 'NO', 'ha!', '4'])} "*rng.choice((2, 3, 500)),
    'long': lambda rng: ''.join(rng.choice('abcdefgh.-/\'') for _ in range(rng.choice((200, 1000, 3000)))),
    'numbers': lambda rng: f"{rng.randrange(10**rng.randint(1, 40))}{rng.choice(['', '.5', 'e308', ',000', 'th', '%'])}",
    'words': lambda rng: review(rng, 'pos', rng.randint(1, 20))}

def generated(n, seed=0):
    "So many texts of one to eight pieces, every kind alone among them; the same for the same seed"
    rng = random.Random(seed)
    texts = [f(rng) for f in kinds.values()] + ['', ' ', '\n', 'xxbos', '\ufeff', '\x00']
    names = list(kinds)
    while len(texts) < n: texts.append(rng.choice(['', ' ', '\n', ' ']).join(kinds[rng.choice(names)](rng) for _ in range(rng.randint(1, 8))))
    return texts[:n]

# Ways in

class Ways:
    "What is asked of texts, and what came out; a `CourseError` of one line is an answer, any other exception a fault"
    def __init__(self, home, texts, slowly):
        self.home, self.texts, self.some = home, texts, range(0, len(texts), slowly)   # the slow ways take some of the texts
        self.faults, self.asked, self.refused, self.nan = [], 0, 0, 0
        self.lm, self.bundle = load_checkpoint(home/'lm'), load_bundle(home/'bundle')

    def fault(self, way, i, what): self.faults.append(f'{way}, text {i} {ascii(self.texts[i])[:120]}: {ascii(what)[:300]}')

    def ask(self, way, f, places=None):
        "`f(text)` of each text by its place; no answer where it was refused"
        answers = {}
        for i in range(len(self.texts)) if places is None else places:
            self.asked += 1
            try: answers[i] = f(self.texts[i])
            except CourseError as e:
                self.refused += 1
                if '\n' in str(e): self.fault(way, i, f'an error of several lines: {e}')
            except Exception as e: self.fault(way, i, f'{type(e).__name__}: {e}')
        return answers

    def ask_at_once(self, way, f, places):
        "The answers of `f(texts)` by their places, all of which were answered alone"
        self.asked += len(places)
        try: found = list(f([self.texts[i] for i in places]))
        except Exception as e: self.faults.append(f'{way}, {len(places)} texts: {type(e).__name__}: {ascii(str(e))[:300]}')
        else:
            if len(found) == len(places): return dict(zip(places, found))
            self.faults.append(f'{way}: {len(found)} answers for {len(places)} texts')
        return {}

    def check_probs(self, way, answers, alone=None):
        "Chances that sum to one, and are those that the text gets alone"
        for i,p in answers.items():
            p = np.asarray(p)
            if not np.isfinite(p).all():
                self.nan += 1
                self.fault(way, i, 'nan')
            elif abs(p.sum()-1) > 1e-4: self.fault(way, i, f'chances sum to {p.sum()}')
            elif alone and np.abs(p-alone[i]).max() > 1e-5: self.fault(way, i, f'{p}, alone {alone[i]}')

    def record(self): return dict(texts=len(self.texts), asked=self.asked, refused=self.refused, nan=self.nan, faults=self.faults)

def tokens(ways):
    "Fast, and slowly as lesson 02 writes it: the tokens of each text by its place"
    fast, plain = WordTokenizer(), WordTokenizer()
    plain.cache = lambda t: spacy_words(plain.spacy, apply_rules(t))
    found, want = ways.ask('tokenize', fast.tokenize), ways.ask('tokenize slowly', plain.tokenize)
    for i in found.keys() | want.keys():
        if found.get(i) != want.get(i): ways.fault('tokenize', i, f'{found.get(i)}, slowly {want.get(i)}'[-300:])
        elif not all(isinstance(t, str) and t for t in found[i]): ways.fault('tokenize', i, 'an empty token')
    return found

def streams(ways, found):
    "A stream holds the tokens of all texts, one after the other, and batches come out of it"
    places, vocab = word_ids(ways.lm.vocab), ways.lm.vocab
    def build(texts):
        with tempfile.TemporaryDirectory() as tmp:
            stream = TokenStream.build(texts, Path(tmp)/'stream', ways.lm.tokenizer, vocab, n_procs=1)
            assert all(int(x.max()) < len(vocab) and int(y.max()) < len(vocab) for x,y in lm_dataloaders(stream, stream[:200], 4, 16).train)
            ids = iter(np.asarray(stream.ids).tolist())
            split = [list(islice(ids, len(found[i]))) for i in found]
            return split if next(ids, None) is None else []
    for i,ids in ways.ask_at_once('stream', build, list(found)).items():
        if ids != [places.get(t, places['xxunk']) for t in found[i]]: ways.fault('stream', i, 'other ids')

def classifiers(ways, fit):
    "A bundle, in every way that it can be asked; what it says of each text alone"
    clas = ways.bundle
    labels = lambda o: [o[f'p_{l}'] for l in clas.labels]
    alone = ways.ask('predict', lambda t: clas.predict(t)[2].numpy(), fit)
    ways.check_probs('predict', alone)
    ways.check_probs('probabilities', ways.ask_at_once('probabilities', clas.probabilities, list(alone)), alone)
    ways.check_probs('predict_frame', ways.ask_at_once('predict_frame', lambda o: map(labels, clas.predict_frame(o).to_dict('records')), list(alone)), alone)
    ways.check_probs('predict_stream', ways.ask_at_once('predict_stream', lambda o: map(labels, clas.predict_stream(o, n=100)), list(alone)), alone)
    return alone

def learners(ways, alone):
    "A learner in the state of the bundle, with all texts in its loaders: it says what the bundle says"
    fit, bundle, made = [i for i in alone if ways.texts[i].strip()], load_checkpoint(ways.home/'bundle'), {}
    def predict_all(texts):
        frame = pd.DataFrame(dict(text=pd.Series(texts, dtype=object), label=(['neg', 'pos']*len(texts))[:len(texts)]))
        dls = classifier_dataloaders(frame, frame[:1], ways.lm, bs=16, max_tokens=10**6)
        assert all(int(x.max()) < len(ways.lm.vocab) for x,_ in dls.train)
        learn = made['learn'] = text_classifier_learner(dls, ways.lm, verbose=False, lin_ftrs=bundle.config['head'].get('lin_ftrs'), max_unknown=1)
        learn.model.load_state_dict(bundle.weights)
        return np.asarray(predictions(learn, dls.test_dl(texts))[0])
    ways.check_probs('loaders', ways.ask_at_once('loaders', predict_all, fit), alone)
    if learn := made.get('learn'):
        ways.check_probs('learn.predict', ways.ask('learn.predict', lambda t: learn.predict(t)[2].numpy(), [i for i in fit if i in ways.some]), alone)

def generators(ways):
    torch.manual_seed(0)
    for i,said in ways.ask('generate', lambda t: generate(ways.lm, t, 2, seed=1), ways.some).items():
        if len(said) != 1 or not isinstance(said[0], str): ways.fault('generate', i, said)

# The command

def typed(*words, stdin=''):
    "Status, output and errors of a command in this process"
    out, err, argv, was = io.StringIO(), io.StringIO(), sys.argv, sys.stdin
    sys.argv, sys.stdin = ['ulmfit-course', *map(str, words)], io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err): return cli.main(), out.getvalue(), err.getvalue()
    except SystemExit as e: return e.code, out.getvalue(), err.getvalue()
    finally: sys.argv, sys.stdin = argv, was

def refused_well(err): return err.count('\n') == 1 and 'should not happen' not in err

def answer_of(*words, stdin=''):
    "What the command says on a terminal; raises where it does what it must not"
    status, out, err = typed(*words, stdin=stdin)
    if status == 1 and refused_well(err): raise CourseError(err.strip())
    if status or err: raise RuntimeError(f'status {status}: {err[-300:]}')
    if bad := re.findall(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]', out): raise RuntimeError(f'{bad[:5]} reach the terminal')
    return out

def the_command(ways, alone):
    "A file of all texts; some texts as arguments, and on standard input"
    bundle = ways.home/'bundle'
    def predict_file(texts):
        with tempfile.TemporaryDirectory() as tmp:
            path = Path(tmp)/'texts.jsonl'
            path.write_text(''.join(json.dumps(dict(text=t)) + '\n' for t in texts))
            return [[o[f'p_{l}'] for l in ways.bundle.labels] for o in json.loads(answer_of('predict', bundle, '--file', path, '--json', '--force'))]
    ways.check_probs('predict --file', ways.ask_at_once('predict --file', predict_file, [i for i in alone if ways.texts[i].strip()]), alone)
    ways.ask('predict TEXT', lambda t: answer_of('predict', '--force', '--', bundle, t), ways.some)
    ways.ask('tokenize -', lambda t: answer_of('tokenize', '-', stdin=t), ways.some)
    ways.ask('generate --prompt', lambda t: answer_of('generate', ways.home/'lm', f'--prompt={t}', '--tokens', 2), ways.some)

def every_way(home, n, seed=0, slowly=20):
    "So many texts through every way in; through the slow ways one in `slowly`"
    ways = Ways(home, generated(n, seed), slowly)
    found = tokens(ways)
    streams(ways, found)
    alone = classifiers(ways, found)
    learners(ways, alone)
    generators(ways)
    the_command(ways, alone)
    return ways.record()
