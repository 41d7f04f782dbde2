"The words of the course and the errors that its learners meet: each is taught, none is missing, each is found again"
import ast, importlib.util, json, re
from pathlib import Path
import pytest, torch, torch.nn.functional as F
from torch import nn
from ulmfit_course import cli
from ulmfit_course.core import CourseError
from ulmfit_course.glossary import course_errors, explain, known_errors, term_of, terms, words_pattern

root = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location('build', root/'docs/build.py')
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

def texts(path): return [''.join(c['source']) for c in json.loads(path.read_text('utf8'))['cells'] if c['cell_type'] == 'markdown']
lessons = {p.stem[:2]: texts(p) for p in sorted((root/'nbs').glob('[0-9]*.ipynb'))}
prose = {n: '\n'.join(part for t in own for part in build.prose(t)) for n,own in lessons.items()}
each = pytest.mark.parametrize('term', terms().values(), ids=lambda t: t.term)

# Words

told_before = {'attention', 'augmentation', 'AWD-LSTM', 'bundle', 'decoder', 'embedding', 'gradual unfreezing', 'int8', 'LSTM', 'threshold'}   # named in passing; the site links them there, too

def early(term):
    "Lessons that use it before the one that teaches it, unless lesson 00 does, too"
    used = [n for n,text in prose.items() if words_pattern(term.names).search(text)]
    return [] if '00' in used else [n for n in used if n < term.lesson]

@each
def test_a_term_is_taught_where_it_says(term):
    assert words_pattern(term.names).search('\n'.join(lessons[term.lesson])), f'lesson {term.lesson} has no {term.term}'

@each
def test_a_term_is_not_used_before_it_is_taught(term):
    assert not early(term) or term.term in told_before, f'used in {early(term)}'

@each
def test_a_term_is_said_in_a_few_sentences(term):
    sentences = re.findall(r'[^.]+\.(?=\s|$)', term.says)
    assert 1 <= len(sentences) <= 3 and ''.join(sentences) == term.says and len(term.says) < 240

def test_no_two_terms_share_a_name():
    names = [n for t in terms().values() for n in t.names]
    assert len({n.casefold() for n in names}) == len(names) and len(terms()) >= 60
    assert [t for t in terms()] == sorted(terms(), key=str.casefold)
    for n in names: assert n in term_of(n).names

@pytest.mark.parametrize('source,linked', [
    ('Logits and logits.', '{term}`Logits <logits>` and logits.'),
    ('`logits`, [logits](a.md), $logits$ and **logits**', '`logits`, [logits](a.md), $logits$ and **{term}`logits`**'),
    ('# Logits\n\nNo more\n```\nlogits\n```\nlogits', '# Logits\n\nNo more\n```\nlogits\n```\n{term}`logits`'),
    ('The hidden states of a state', 'The {term}`hidden states <hidden state>` of a state'),
    ('> a batch\n\n| Time | a batch |\n<b title="gate">gates</b>', '> a batch\n\n| Time | a batch |\n<b title="gate">{term}`gates <gate>`</b>')])
def test_the_first_use_is_a_link(source, linked):
    assert build.with_terms(source, set()) == linked

def test_a_word_is_linked_once_a_lesson():
    seen = set()
    first, second = (build.with_terms('A batch.', seen) for _ in range(2))
    assert (first, second) == ('A {term}`batch`.', 'A batch.')

@pytest.mark.parametrize('path', [p for p in build.notebooks() if build.is_lesson(p)], ids=lambda p: p.stem)
def test_a_lesson_links_each_term_once(path):
    linked = re.findall(r'\{term\}`(?:[^`<]*<)?([^`>]+)>?`', build.lesson(path))
    assert linked and len(set(linked)) == len(linked) and set(linked) <= set(terms())

def test_the_page_has_every_term():
    page = build.glossary()
    assert page.count('[lesson ') == len(terms()) and '{glossary}' in page and '{terms}' not in page
    for t in terms().values(): assert f'\n{t.term}\n' in page and f'[lesson {t.lesson}](' in page

# Errors

def twice():
    w = torch.ones(2, requires_grad=True)
    loss = (w*w).sum()
    loss.backward()
    loss.backward()

raised = {
    'mat1 and mat2': lambda: nn.Linear(4, 5)(torch.ones(2, 3)),
    'index out of range': lambda: nn.Embedding(3, 2)(torch.tensor([5])),
    'size mismatch': lambda: nn.Linear(4, 5).load_state_dict(nn.Linear(3, 5).state_dict()),
    'The size of tensor a': lambda: torch.ones(2, 3) + torch.ones(2, 4),
    'element 0 of tensors': lambda: torch.ones(2).sum().backward(),
    'Trying to backward': twice,
    'expected': lambda: F.cross_entropy(torch.ones(2, 3), torch.tensor([0., 1.])),
    'not implemented for': lambda: torch.tensor([1, 2]).softmax(0),
    'not implemented for ': lambda: torch.tensor([1, 2]).mean(),   # says otherwise, means the same
    'is out of bounds': lambda: F.cross_entropy(torch.ones(2, 3), torch.tensor([0, 7])),
    'stack expects': lambda: torch.stack([torch.ones(2), torch.ones(3)]),
    "Can't call numpy": lambda: torch.ones(2, requires_grad=True).numpy(),
    'No such file': lambda: torch.load('models/1epoch.pth', weights_only=True),
    "name '…' is": lambda: eval('learn.fit(1)'),
    'No module named': lambda: (_ for _ in ()).throw(ModuleNotFoundError("No module named 'ulmfit_course'"))}

@pytest.mark.parametrize('says', raised)
def test_what_torch_and_python_say_today_is_known(says):
    with pytest.raises(Exception) as e: raised[says]()
    found = explain(f'Traceback (most recent call last):\n  File "a.py"\n{type(e.value).__name__}: {e.value}')
    assert says.strip() in found['error'] and found['cause'] and found['mend']

@pytest.mark.parametrize('pasted,of', [
    ('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 7.79 GiB', 'torch'),
    ('RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (when checking argument)', 'torch'),
    ('RuntimeError: DataLoader worker (pid(s) 4711) exited unexpectedly', 'torch'),
    ('Could not do one pass in your dataloader, there is something wrong in it. Please see the stack trace below:', 'fastai'),
    ('ValueError: This DataLoader does not contain any batches', 'fastai'), ('The kernel appears to have died. It will restart automatically.', 'Jupyter')])
def test_a_pasted_message_is_known(pasted, of):
    assert explain(pasted)['from'] == of

@pytest.mark.parametrize('error', course_errors(), ids=lambda e: f'{e.of}: {e.says[0][:40]}')
def test_every_error_of_the_course_is_found_by_its_message(error):
    met = explain('CourseError: ' + error.says[0].replace('…', 'something'))
    assert met['error'] == error.says[0] and '…' not in met['cause'] + met.get('mend', '')

def test_no_error_of_the_course_is_missing():
    "Those that only pass on what somebody else said are few"
    raising = {p.stem: p.read_text('utf8') for p in (root/'ulmfit_course').glob('*.py') if 'CourseError(' in p.read_text('utf8')}
    calls = lambda m: [n for n in ast.walk(ast.parse(raising[m])) if isinstance(n, ast.Call) and getattr(n.func, 'id', '') == 'CourseError']
    without = {m for m in raising if calls(m) and not [e for e in course_errors() if e.of == m]}
    assert without == set()
    assert sum(map(len, map(calls, raising))) - len(course_errors()) < 20
    assert len(known_errors()) >= 10 and all(e.cause and e.mend for e in known_errors())

def test_an_unknown_text_is_told_so():
    with pytest.raises(CourseError, match='nothing is known of'): explain('the weather is fine today')
    with pytest.raises(CourseError, match='nothing is known of'): explain('')

@pytest.mark.parametrize('words,status,said', [
    (['hidden', 'state'], 0, 'lesson: 0'), (['IndexError: index out of range in self'], 0, 'from: torch'), (['CUDA', '--json'], 1, 'nothing is known'),
    (['logits', '--json'], 0, '"term": "logits"'), ([], 2, 'required: TEXT')])
def test_the_command_explains(words, status, said, capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['ulmfit-course', 'explain', *words])
    try: left = cli.main()
    except SystemExit as e: left = e.code
    told = capsys.readouterr()
    assert left == status and said in told.out + told.err and 'Traceback' not in told.err

def test_the_page_has_every_error():
    page = build.troubleshooting()
    assert '{known}' not in page and '{raised}' not in page
    for e in known_errors(): assert all(build.cell(o).replace('`', '') in page.replace('`', '') for o in (*e.says, e.cause, e.mend))
    for e in course_errors(): assert f"| {build.cell(e.cause).replace('`', '')} | {build.cell(e.mend).replace('`', '')} |" in page.replace('`', '')
