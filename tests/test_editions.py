"What students and teachers get: lessons without an answer in them, keys with all answers, pages that say what the lessons say"
import ast, json, re, shutil, sys
from pathlib import Path
import pytest
from ulmfit_course import editions
from ulmfit_course.cli import main
from ulmfit_course.core import CourseError
from ulmfit_course.editions import (asked_in, cells_of, code_of, copy_lessons, every_exercise, guesses_of, key, page_html,
    questions_of, repeated, said, solutions, students_lesson, teaching_index, teaching_page, teaching_pages)
from ulmfit_course.lab import copy_course, lesson_files
from ulmfit_course.teaching import Help, students_note

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
import lessons

every_lesson = pytest.mark.parametrize('number,path', lesson_files().items(), ids=lambda o: getattr(o, 'stem', None))
known = solutions()

def in_students(path):
    "The cells of a lesson as students get it"
    return [{**c, 'source': ''.join(c['source'])} for c in json.loads(students_lesson(path))['cells']]

@every_lesson
def test_no_answer_is_left(number, path):
    cells = in_students(path)
    code = [c for c in cells if c['cell_type'] == 'code']
    assert all(c['outputs'] == [] and c['execution_count'] is None for c in code)
    assert [n for c in code for f,n in repeated(c['source'], known)] == []
    folded = re.findall(r'<summary>(.*?)</summary>', '\n'.join(c['source'] for c in cells))
    assert all(o.startswith('Hint') for o in folded)
    text = json.dumps(cells)
    for name in asked_in(path):   # one line is said again where a lesson shows how the course does it; two are a solution
        body = [l.strip() for l in every_exercise()[name].solution.splitlines() if not re.match(r'(import|from|def|class)\b|\s*"', l)]
        long = [l for l in body if len(l) > 20]
        assert len(long) < 2 or not all(json.dumps(l)[1:-1] in text for l in long), name

@every_lesson
def test_the_rest_is_the_lesson(number, path):
    "Stubs, checks, help and quizzes stay, and every cell is Python"
    cells, before = in_students(path), cells_of(path)
    only_answers = [c for c in before if c['cell_type'] == 'markdown' and not editions.without_answers(c['source'])]
    assert len(before) - len(cells) == len(only_answers)
    source = '\n'.join(c['source'] for c in cells if c['cell_type'] == 'code')
    for name in asked_in(path): assert f'check({name})' in source and f"Help('{name}')" in source and f'def {name}(' in source
    whole = '\n'.join(c['source'] for c in before if c['cell_type'] == 'code')
    for word in ('raise NotImplementedError', 'Quiz(', 'Guess(', 'Help('): assert source.count(word) == whole.count(word)
    for c in cells:
        if c['cell_type'] == 'code': ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', c['source'], flags=re.M))

def test_a_solution_that_the_lesson_repeats_is_taken_from_the_package():
    taken = [c['source'] for p in lesson_files().values() for c in in_students(p) if "'].right   #" in c['source']]
    assert len(taken) >= 3
    assert all(o.startswith('from ulmfit_course.teaching import exercises\n') for o in taken)

@pytest.mark.parametrize('code', ['def step(w, g, rate): return w + rate*g', 'def step(w, g): return w - rate*g', 'def step(w, g, rate):\n    return rate*g',
                                  'step = lambda w, g, rate: w - rate*g'])
def test_another_function_stays(code): assert editions.without_solutions(code, known) == code

@every_lesson
def test_the_key_has_every_answer(number, path):
    text, asked = key(number), asked_in(path)
    for name in asked:
        e = every_exercise()[name]
        assert f'### `{name}` (' in text and e.solution in text and all(h in text for h in e.hints)
        assert all(said(f) in text and code_of(f) in text for f in e.misread)
    counts = lessons.report(path)
    assert (len(asked), len(questions_of(path)), len(guesses_of(path))) == (counts['exercises'], counts['questions'], counts['guesses'])
    assert text.count('- **yes**: ') == counts['questions'] and 'raise NotImplementedError' not in text
    assert all(f'**{answer}**' in text for _,answer in guesses_of(path))
    folded = [m for c in cells_of(path) if c['cell_type'] == 'markdown' for m in re.findall(r'<summary>(?!Hint)(.*?)</summary>', c['source'])]
    assert all(f'*{summary}:*' in text for summary in folded) and '<details>' not in text

def test_an_exercise_is_asked_in_the_words_of_the_lesson():
    asked = asked_in(lesson_files()['00'])
    assert asked['softmax'].startswith('Write it for tensors') and 'what is the perplexity of the whole?' in asked['perplexity']

@every_lesson
def test_a_page_for_the_teacher(number, path):
    page = teaching_page(number)
    assert re.findall(r'^## (.*)', page, re.M) == ['Goal', 'Show', 'Ask', 'Skip', 'Who comes late', 'Likely wrong answers, and what they mean']
    study = lessons.report(path)['study']
    assert f'| Study | {study} minutes |' in page
    assert all(said(f) in page for name in asked_in(path) for f in every_exercise()[name].misread)
    assert all(e.solution not in page for e in map(every_exercise().get, asked_in(path)))

def test_what_the_pages_name_is_there():
    "Every link of the pages, and every exercise that a plan names"
    for name, text in teaching_pages().items():
        for to in re.findall(r'\]\((?!https?:)([^)#]+)', text):
            assert (root/'docs/teaching'/to).is_file(), f'{name}: {to}'
    plan = teaching_index()
    named = {*re.findall(r'`([a-z_]+)`', plan)} - {'check', 'accuracy', 'doctor', 'progress'}
    assert {o for o in named if '_' in o} <= {*every_exercise()}

def test_the_plans_add_up():
    plan = (root/'docs/teaching/index.md').read_text('utf8')
    sessions = re.split(r'^### \d\. ', plan.split('## One day')[0], flags=re.M)[1:]
    minutes = [sum(map(int, re.findall(r'^\| (\d+) \|', part, re.M))) for part in sessions]
    assert minutes == [90]*4
    rows = [(60*int(h) + int(m), int(n)) for h,m,n in re.findall(r'^\| (\d+):(\d\d) \| (\d+) \|', plan, re.M)]
    assert len(rows) > 8 and all(a + n == b for (a, n),(b, _) in zip(rows, rows[1:]))

def test_pages_read_without_a_connection():
    page = page_html(key('04'))
    assert not re.search(r'<(script|link|img|iframe)\b', page) and '<math' in page and '```' not in page

# The folder of a student

@pytest.fixture
def mine(tmp_path):
    copy_lessons(tmp_path/'mine', student=True)
    return tmp_path/'mine'

def test_a_students_folder_has_no_solution(mine, monkeypatch):
    files = [o.relative_to(mine).as_posix() for o in mine.rglob('*') if o.is_file()]
    assert not [o for o in files if 'exercises_' in o or o.startswith('nbs/assignments')]
    assert 'in the installed package' in (mine/students_note).read_text('utf8')
    for name in ('softmax', 'viterbi'):
        monkeypatch.chdir(root)
        assert [*Help(name).folds] == ['Hint 1', 'Hint 2', 'Solution']
        for folder in (mine, mine/'nbs', mine/'nbs/tutorials'):
            monkeypatch.chdir(folder)
            told = Help(name)
            assert [*told.folds] == ['Hint 1', 'Hint 2'] and 'Solution' not in told.static_html()

def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('jupyterlab.labapp.LabApp.launch_instance', lambda options: None)
    assert main(['lab', str(tmp_path/'mine'), '--student', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['kept'] == [] and (tmp_path/'mine'/students_note).is_file()
    assert main(['lab', str(tmp_path/'whole'), '--json']) == 0 and not (tmp_path/'whole'/students_note).exists()

def test_it_stays_the_students_edition(mine):
    (mine/'nbs/00_thirty_minutes.ipynb').write_text('mine')
    assert copy_lessons(mine) == ['nbs/00_thirty_minutes.ipynb']
    assert (mine/'nbs/01_data.ipynb').read_text('utf8') == students_lesson(lesson_files()['01'])

def test_solutions_that_are_there_are_not_covered_up(tmp_path):
    copy_course(tmp_path/'whole')
    with pytest.raises(CourseError, match='name another folder'): copy_lessons(tmp_path/'whole', student=True)
    assert not (tmp_path/'whole'/students_note).exists()
    shutil.rmtree(tmp_path/'whole')
    assert copy_lessons(tmp_path/'whole') == [] and 'Solution' in (tmp_path/'whole/nbs/00_thirty_minutes.ipynb').read_text('utf8')

@pytest.mark.parametrize('number', ['99', '', '../00', '0'])
def test_a_lesson_that_is_not_there(number):
    for f in (key, teaching_page):
        with pytest.raises(CourseError, match='choose one of 00, 01'): f(number)
