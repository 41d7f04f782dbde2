"Slides of the lessons, without a browser; `tests/browser/test_slides_seen.py` opens them"
import json, re
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from ulmfit_course import cli
from ulmfit_course.core import CourseError
from ulmfit_course.lab import lesson_files
from ulmfit_course.slides import asked_by, notebook_at, read_notebook, save_slides, slides_of
from ulmfit_course.teaching import Guess, Quiz

every_lesson = pytest.mark.parametrize('name', [p.stem for p in lesson_files().values()])
def resources(page):
    page = re.sub(r'(?s)(<script>).*?(</script>)', r'\1\2', page)   # what a script says is no resource
    return re.findall(r'<(?:script|link|img|iframe|source|use)\b[^>]*?\s(?:src|href|srcset)=["\']?(?!data:)([^"\' >]+)|@import\s+(\S+)|url\((?!["\']?data:)([^)]+)\)', page)
def words(slide): return len(' '.join(slide.text).split())
def shown(slides): return [c for s in slides for c in s.shown]
def note(source, **metadata): return dict(cell_type='markdown', source=source, metadata=metadata)
def code(source, *html, **metadata): return dict(cell_type='code', source=source, metadata=metadata, outputs=[dict(output_type='display_data', data={'text/html': h}, metadata={}) for h in html])

@every_lesson
def test_slides_of_a_lesson(name):
    nb = read_notebook(notebook_at(name))
    slides = slides_of(nb)
    sections = re.findall(r'^## (.+)', '\n'.join(''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'markdown'), re.M)
    assert slides[0].kind == 'slide' and len(sections)-1 <= sum(s.kind == 'slide' for s in slides) <= len(sections)+1   # "Next" may stand alone
    assert 12 <= len(slides) <= 110
    assert all(s.title and (s.text or s.shown) for s in slides)
    assert all(words(s) <= 80 for s in slides), max(slides, key=words)

@every_lesson
def test_pictures_are_shown_and_solutions_are_not(name):
    nb = read_notebook(notebook_at(name))
    pictured = lambda cells: sum(bool(re.search('<img |<svg ', json.dumps(o))) for c in cells for o in c.get('outputs', []))
    slides = shown(slides_of(nb))
    told = json.dumps(slides)
    assert pictured(slides) == pictured(nb['cells'])
    assert 'Hint 1' not in told and 'Solution' not in told and '<details' not in told

def test_question_comes_before_its_answer():
    quiz = Quiz(('What comes <b>next</b>?', {'A word': 'It is guessed.', 'Nothing: no': 'It is, yes, guessed.'}, 'A word'))
    asked, = asked_by(quiz.static_html())
    assert sorted(c for _,c,_ in asked['choices']) == ['A word', 'Nothing: no'] and asked['answer'] == 'A word. It is guessed.'
    slides = slides_of(dict(cells=[note('# A\n\n> b'), code('Guess(1)', Guess('How many?', 12, 'words').static_html()), code('Quiz(1)', quiz.static_html()), code('x', '<img alt="a" src="data:,">')]))
    kinds = [[c['metadata']['slideshow']['slide_type'] for c in s.shown] for s in slides]
    assert kinds == [[], ['fragment'], ['-', 'fragment'], ['-']] and slides[1].text == ['How many?'] and '12 words' in slides[1].shown[0]['source']
    assert '&lt;b&gt;' in slides[2].text[0]

def test_answer_of_an_exercise_stands_on_another_slide():
    stub, answer = code('def f(x):\n    raise NotImplementedError\n\ncheck(f)'), code('#| export\ndef f(x): return 2*x')
    slides = slides_of(dict(cells=[note('## Twice\n\nSay it.'), note('### Exercise: f\n\nWrite it.'), stub, code("Help('f')", '<details>'), note('So it is:'), answer]))
    assert [s.title for s in slides] == ['Twice', 'Exercise: f', 'Twice'] and 'return' in slides[2].shown[0]['source'] and 'return' not in str(slides[1])

def test_page_needs_nothing_else(tmp_path, capsys):
    assert cli.main(['slides', '00', '--out', str(tmp_path/'new')]) == 0
    path, = (tmp_path/'new').iterdir()
    page = path.read_text('utf8')
    assert path.name == '00_thirty_minutes.html' and path.name in capsys.readouterr().out
    assert resources(page) == [] and resources('<script src="https://a.b/c.js">@import url(x.css)') != []
    assert '<math' in page and page.count('<section') > 20

def test_own_notebook_says_what_is_a_slide(tmp_path):
    kind = lambda o: dict(slideshow=dict(slide_type=o))
    cells = [new_markdown_cell('# Mine', metadata=kind('slide')), new_markdown_cell('not this', metadata=kind('skip')),
             new_markdown_cell('for me', metadata=kind('notes')), new_code_cell('1+1', metadata=kind('fragment')), new_markdown_cell('# Next', metadata=kind('slide'))]
    nbformat.write(new_notebook(cells=cells), tmp_path/'mine.ipynb')
    path, = save_slides(tmp_path/'out', [tmp_path/'mine.ipynb'])
    page = path.read_text('utf8')
    assert 'not this' not in page and re.search(r'<aside class="notes">\s*<p>for me', page) and re.search(r'class="fragment"[^>]*>\s*<div class="code"', page)
    assert len(re.findall(r'<h1[^>]*>', page)) == 2

@pytest.mark.parametrize('lesson, says', [('99', 'no lesson'), ('', 'no lesson'), ('0', 'no lesson'), ('nowhere.ipynb', 'no lesson')])
def test_unknown_lesson(lesson, says, tmp_path):
    with pytest.raises(CourseError, match=says): save_slides(tmp_path/'out', ['00', lesson])
    assert not (tmp_path/'out').exists()

@pytest.mark.parametrize('text', ['', '[]', '{"cells": 1}', '{"cells": [1]}', '{"cells": []}', '{"cells": [{"cell_type": "code", "source": 1, "metadata": {}}]}',
                                  '{"cells": [{"cell_type": "code", "source": "", "metadata": 1}]}', '{"cells": [{"cell_type": "code", "source": "a", "metadata": {}, "outputs": [1]}]}'])
def test_broken_notebook(text, tmp_path):
    (tmp_path/'a.ipynb').write_text(text)
    with pytest.raises(CourseError): save_slides(tmp_path/'out', [tmp_path/'a.ipynb'])
    assert not (tmp_path/'out').exists()
