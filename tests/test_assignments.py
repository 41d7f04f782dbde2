"nbgrader grades a class of three: a perfect, an empty and a wrong submission of each assignment get the marks that they deserve"
import csv, json, os, re, subprocess, sys
from pathlib import Path
import pytest
from nbgrader.api import Gradebook
from ulmfit_course.assignments import assignment_files, copy_assignments

page = (Path(__file__).resolve().parent.parent/'docs/teaching/assignments.md').read_text('utf8')
files = {Path(name).stem: path for name,path in assignment_files().items() if name.endswith('.ipynb')}
slow = pytest.mark.slow
# The first runs always, and by way of the commands of docs/teaching/assignments.md
every_assignment = pytest.mark.parametrize('name', [o if o.startswith('1') else pytest.param(o, marks=slow) for o in files])
each = pytest.mark.parametrize('name', files)
by_hand = {'3_network': 3, '4_finetune': 2, '5_explain': 3}   # marks that a person gives

def read(path): return json.loads(Path(path).read_text('utf8'))
def source(cell): return ''.join(cell['source'])
def graded(cell): return cell['metadata'].get('nbgrader', {})
def cells(name): return [c for c in read(files[name])['cells'] if graded(c)]
def hidden(cell): return ''.join(re.findall(r'### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS', source(cell), re.S))
def solved(cell): return re.sub(r' *### (BEGIN|END) SOLUTION\n?', '', source(cell))

# As they are written

@each
def test_an_assignment_is_as_nbgrader_wants_it(name):
    ids = [graded(c)['grade_id'] for c in cells(name)]
    assert len(set(ids)) == len(ids) and all(graded(c)['schema_version'] == 3 for c in cells(name))
    for c in cells(name):
        m = graded(c)
        assert m['grade'] or m['solution'] or m['locked']
        assert not m['grade'] or m['points'] > 0
        assert ('BEGIN SOLUTION' in source(c)) <= m['solution'] and ('BEGIN HIDDEN' in source(c)) <= (m['grade'] and not m['solution'])
        if m['solution'] and c['cell_type'] == 'code': assert 'BEGIN SOLUTION' in source(c), 'a stub has a name and says what it returns'

@each
def test_marks_add_up(name):
    told = '\n\n'.join(source(c) for c in read(files[name])['cells'] if c['cell_type'] == 'markdown')
    assert sum(graded(c)['points'] for c in cells(name) if graded(c)['grade']) == 20 == int(re.search(r'\| Marks \| (\d+)', told)[1])
    assert sum(graded(c)['points'] for c in cells(name) if graded(c)['grade'] and graded(c)['solution']) == by_hand.get(name, 0)
    assert sum(map(int, re.findall(r'^## .*\((\d+) marks', told, re.M))) == 20   # what the headings promise
    assert 60 <= int(re.search(r'\| Time \| (\d+) minutes', told)[1]) <= 90

# As they are graded

wrong = {
    '1_tokenizer': dict(
        set_free=r'''
def set_free(t): return ' '.join(re.sub(r'(?<!\d)([.,!?:;])(?!\d)', r' \1 ', t).split())   # "3. Then" is left''',
        repeated_characters='from ulmfit_course.tokenization import replace_rep as repeated_characters   # the library counts digits, too',
        repeated_words=r'''
def repeated_words(t): return re.sub(r'(?i)\b(\w+)(?: \1){2,}', lambda m: f'xxwrep {len(m[0].split())} {m[1]}', t)   # nothing begins with no''',
        capitals='''
def capitals(words):   # iPhone is lost
    def mark(w): return ['xxup'] if w.isupper() and len(w) > 1 else ['xxmaj'] if w[0].isupper() else []
    return [t for w in words for t in (*mark(w), w.lower())]''',
        vocabulary='''
def vocabulary(docs, min_texts, size):   # occurrences, not texts
    n = Counter(t for d in docs for t in d)
    return (special_tokens + sorted((t for t in n if n[t] >= min_texts and t not in special_tokens), key=lambda t: (-n[t], t)))[:size]''',
        numbers='''
def to_ids(tokens, vocab): return [vocab.index(t if t in vocab else 'xxunk') for t in tokens]
def to_tokens(ids, vocab): return [vocab[i] for i in ids]   # -1 is the last'''),
    '2_batches': dict(
        rows='''
def rows(ids, bs):   # the targets are the inputs
    n = (len(ids)-1)//bs
    return ids[:bs*n].reshape(bs, n), ids[:bs*n].reshape(bs, n)''',
        chunks='''
def chunks(x, y, bptt): return [(x[:, s:s+bptt], y[:, s:s+bptt]) for s in range(0, x.shape[1]-bptt+1, bptt)]   # the end is lost''',
        breaks='''
def breaks(batches):   # the first row only
    return [i for i in range(1, len(batches)) if batches[i-1][1][0, -1] != batches[i][0][0, 0]]''',
        fitting='''
def fitting(lengths, most):   # without padding
    batches = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and sum(lengths[j] for j in batches[-1]) + lengths[i] <= most: batches[-1].append(i)
        else: batches.append([i])
    return batches''',
        padded='''
def padded(docs, pad, multiple):   # at the end
    width = -(-max(map(len, docs))//multiple)*multiple
    ids, mask = np.full((len(docs), width), pad), np.zeros((len(docs), width), dtype=bool)
    for i,doc in enumerate(docs): ids[i, :len(doc)], mask[i, :len(doc)] = doc, True
    return ids, mask''',
        mean_loss='''
def mean_loss(losses, masks): return float(np.mean([l[m].mean() for l,m in zip(losses, masks)]))   # a mean of means'''),
    '3_network': dict(
        text_dropout='''
class TextDropout(nn.Module):   # a new mask for each chunk
    def __init__(self, p):
        super().__init__()
        self.p = p
    def reset(self): pass
    def forward(self, x): return x*F.dropout(torch.ones_like(x[:, :1]), self.p, self.training)''',
        dropped_pass='''
def dropped_pass(lstm, x, p):   # no gradient comes back
    weights = {n: F.dropout(w.data, p) if n.startswith('weight_hh') else w.data for n,w in lstm.named_parameters()}
    return torch.func.functional_call(lstm, weights, (x,))''',
        reading='''
def best_epoch(rows): return min(rows, key=lambda r: r['train_loss'])['epoch']   # learned by heart
def overfits_from(rows):
    best = min(rows, key=lambda r: r['valid_loss'])
    over = [r['valid_loss'] > best['valid_loss'] and r['train_loss'] < best['train_loss'] for r in rows]
    return next((r['epoch'] for i,r in enumerate(rows) if all(over[i:])), None)
def perplexity(rows): return math.exp(rows[-1]['valid_loss'])   # the last epoch''',
        stopped_after='''
def stopped_after(rows, patience):   # compared with the epoch before
    waited = 0
    for a,b in zip(rows, rows[1:]):
        waited = 0 if b['valid_loss'] < a['valid_loss'] else waited+1
        if waited == patience: return b['epoch']
    return rows[-1]['epoch']''',
        rate='rate = rates[losses_at.index(min(losses_at))]   # where the loss is lowest',
        in_words='The poems of the validation are easier.'),
    '4_finetune': dict(
        split_off='''
def split_off(frame, share, seed):   # a text may stand on both sides
    valid = frame.sample(frac=share, random_state=seed)
    return frame.drop(valid.index).reset_index(drop=True), valid.reset_index(drop=True)''',
        baselines='''
def baselines(train, valid):   # the commonest label of the validation texts
    probs, pipe = tfidf_baseline(train, valid)
    return dict(majority=float(valid.label.value_counts(normalize=True).max()),
                tfidf=float((pipe.classes_[probs.argmax(1)] == valid.label).mean()))''',
        predicted='''
learn = train_classifier(labelled, None, 'imdb-small', ClassifierRecipe.solved())
clas = TextClassifier(learn.checkpoint())
predicted = list(clas.predict_frame(hidden.sort_values('text')).label)   # in another order than was asked''',
        standard_error='''
def standard_error(accuracy, n): return accuracy*(1-accuracy)/n   # the variance''',
        estimate='''
estimate = float((clas.predict_frame(labelled[['text']]).label == labelled.label).mean())   # of what it has learned
n_judged = len(labelled)''',
        in_words='I tried one thing.'),
    '5_explain': dict(
        surest_errors='''
def surest_errors(true, probs, labels, n):   # by the right label, which with three labels is another order
    wrong = [i for i,p in enumerate(probs) if labels[p.argmax()] != true[i]]
    return sorted(wrong, key=lambda i: probs[i][labels.index(true[i])])[:n]''',
        deciding='''
def deciding(text, label, n):   # what speaks for the other label
    ids = classifier.to_ids.ids([text])[0]
    parts = leave_one_out(classifier.model, ids, 1-labels.index(label))
    return [classifier.to_ids.vocab[ids[i]] for i in np.argsort(-parts)][:n]''',
        edits=lambda right: right + "\nedits[0] = 'here stands quite another text, which has nothing to do with it'\nedits[1] = others.text[errors[1]]",
        flips='''
def flips(text, k, n, ask, seed):   # takes out words wherever they stand, not places
    draw, words = random.Random(seed), text.split()
    def without(some): return ' '.join(w for w in words if w not in some)
    return sum(ask(without(draw.sample(sorted({*words}), min(k, len({*words}))))) != ask(text) for _ in range(n))/n''',
        in_words='The classifier is bad at irony.')}

# What the wrong answers cost, worked out beforehand; what a person grades is not in it
lost = {
    '1_tokenizer': dict(spaces_hidden=2, characters_hidden=2, words_hidden=2, capitals_hidden=2, vocabulary_hidden=2, numbers_hidden=1),
    '2_batches': dict(rows_shown=2, rows_hidden=2, chunks_hidden=1, breaks_hidden=2, fitting_shown=2, fitting_hidden=2, padded_shown=1,
                      mean_loss_hidden=2),
    '3_network': dict(text_dropout_hidden=2, dropped_pass_hidden=2, reading_shown=1, best_hidden=1, perplexity_hidden=1, stopped_hidden=1,
                      rate_hidden=2),
    '4_finetune': dict(split_hidden=2, baselines_shown=1, above_majority=2, above_tfidf=3, above_by_five=3, standard_error_shown=1,
                       estimate_hidden=2),
    '5_explain': dict(surest_hidden=2, deciding_shown=2, deciding_hidden=2, edit_first=2, edit_second=2, flips_hidden=2)}

@pytest.fixture(scope='module')
def course(tmp_path_factory):
    "A teacher's folder"
    folder = tmp_path_factory.mktemp('course')
    assert copy_assignments(folder) == []
    return folder

def nbgrader(course, *words):
    "Run a command of nbgrader in the teacher's folder"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])   # nbgrader calls alembic by its name
    env = os.environ | dict(PATH=path, ULMFIT_COURSE_PROFILE='tiny', JUPYTER_CONFIG_DIR=str(course), JUPYTER_DATA_DIR=str(course/'jupyter'))
    done = subprocess.run([sys.executable, '-m', 'nbgrader', *words], cwd=course, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr

def hand_in(course, name, student, answers, to=None):
    "The released notebook, with these answers in the place of its stubs"
    nb = read(course/'release'/name/f'{name}.ipynb')
    for c in nb['cells']:
        if (answer := answers.get(graded(c).get('grade_id'))) is not None: c['source'] = answer.strip('\n')
    path = to or course/'submitted'/student/name/f'{name}.ipynb'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(nb), encoding='utf8')

def marks(course, name, student):
    "Cell -> marks, `None` where a person has to give them"
    with Gradebook(f"sqlite:///{course/'gradebook.db'}", 'ulmfit') as book:
        grades = book.find_submission_notebook(name, name, student).grades
        return {g.name: None if g.needs_manual_grade else g.score for g in grades}

def steps(name):
    "The commands that make an assignment and grade it; of the first those that the page names"
    if name[0] != '1': return [['generate_assignment', name], ['autograde', name]]
    return [line.split() for line in re.findall(r'^nbgrader (.+)$', page, re.M)]

@every_assignment
def test_three_submissions_get_their_marks(course, name):
    right = {graded(c)['grade_id']: solved(c) for c in cells(name) if graded(c)['solution']}
    mistakes = {k: v(right[k]) if callable(v) else v for k,v in wrong[name].items()}
    students = dict(perfect=right, empty={}, wrong=right | mistakes)
    for i,words in enumerate(steps(name)):
        nbgrader(course, *words)
        for student,answers in students.items() if i == 0 else ():   # what was made has been handed out
            hand_in(course, name, student, answers, course/f'downloaded/{name}/archive/{student}_{name}.ipynb' if name[0] == '1' else None)
    points = {graded(c)['grade_id']: graded(c)['points'] for c in cells(name) if graded(c)['grade']}
    person = {graded(c)['grade_id'] for c in cells(name) if graded(c)['grade'] and graded(c)['solution']}
    assert marks(course, name, 'perfect') == {k: None if k in person else v for k,v in points.items()}
    assert marks(course, name, 'empty') == dict.fromkeys(points, 0)
    assert marks(course, name, 'wrong') == {k: None if k in person else 0 if k in lost[name] else v for k,v in points.items()}
    assert {k: points[k] for k in lost[name]} == lost[name]
    with Gradebook(f"sqlite:///{course/'gradebook.db'}", 'ulmfit') as book:   # as a person does in formgrader
        for g in book.find_submission_notebook(name, name, 'perfect').grades:
            if g.needs_manual_grade: g.manual_score, g.needs_manual_grade = g.max_score, False
        book.db.commit()
        totals = {o.student.id: o.score for o in book.find_assignment(name).submissions}
    assert totals == dict(perfect=20, empty=0, wrong=20 - by_hand.get(name, 0) - sum(lost[name].values()))
    if name[0] == '1':   # what the last two commands have written
        told = (course/f'feedback/wrong/{name}/{name}.html').read_text('utf8')
        assert 'spam stands in one text only: count texts' in told and 'nobody can bring these capitals back' in told
        rows = csv.DictReader((course/'grades.csv').read_text('utf8').splitlines())
        assert {r['student_id']: float(r['score']) for r in rows if r['assignment'] == name} == totals

@every_assignment
def test_a_student_gets_neither_solutions_nor_hidden_tests(course, name):
    nbgrader(course, 'generate_assignment', name, '--force')
    released = read(course/'release'/name/f'{name}.ipynb')
    text = '\n'.join(source(c) for c in released['cells'])
    secret = '\n'.join([*map(hidden, cells(name)), *(''.join(re.findall(r'### BEGIN SOLUTION\n(.*?)### END', source(c), re.S)) for c in cells(name))])
    open_lines = {l.strip() for c in read(files[name])['cells'] for l in source(c).replace(hidden(c), '').split('\n')}
    lines = {l.strip() for l in secret.split('\n') if len(l.strip()) > 12}
    assert len(lines) > 20 and 'BEGIN' not in text and not [l for l in lines - open_lines if l in text]
    assert not [c for c in released['cells'] if c.get('outputs')]
    stubs = [source(c) for c in released['cells'] if graded(c).get('solution') and c['cell_type'] == 'code']
    assert stubs and all('raise NotImplementedError' in s for s in stubs)
