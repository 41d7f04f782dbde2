"JupyterLab's dark theme: what a lesson and the widgets show can be read there, figures included"
import io
from base64 import b64decode
import numpy as np, pytest
from matplotlib.image import imread
from playwright.sync_api import expect
from conftest import Lesson, wear

pytestmark = pytest.mark.slow

# Each text of an output that stands out from what is behind it by less than 3 to 1

pale = """() => {
  const numbers = c => c.match(/[\\d.]+/g).map(Number).map((v, i) => c.startsWith('color(') && i < 3 ? 255*v : v);
  const light = c => c.slice(0, 3).map(v => v/255).map(v => v <= .04045 ? v/12.92 : ((v+.055)/1.055)**2.4)
    .reduce((sum, v, i) => sum + v*[.2126, .7152, .0722][i], 0);
  const paper = e => {
    for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > .5) return c; }
    return [255, 255, 255];
  };
  const contrast = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x-y); return (high+.05)/(low+.05); };
  const found = [];
  for (const output of document.querySelectorAll('.jp-OutputArea-output')) {
    const walker = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
      if (!text || !e.getClientRects().length || e.closest('style, script, option')) continue;
      const style = getComputedStyle(e), colour = e.closest('svg') && style.fill != 'none' ? style.fill : style.color;
      if (contrast(numbers(colour), paper(e)) < 3) found.push(`${text.slice(0, 40)}: ${colour} on ${paper(e)}`);
    }
  }
  return found;
}"""

def light(rgb): return np.where(rgb <= .04045, rgb/12.92, ((rgb+.055)/1.055)**2.4) @ [.2126, .7152, .0722]

def on_paper(lesson):
    "Figures of widgets: where they bring paper of their own, or words too dark for this page"
    for src in lesson.page.locator('.widget-html img[src^="data:image/png"], .rate-line img').evaluate_all('all => all.map(o => o.src)'):
        seen = imread(io.BytesIO(b64decode(src.split(',')[1])))
        yield seen[0, 0, 3] == 0 and light(seen[seen[..., 3] > .9][:, :3]).max() > .15

@pytest.fixture
def dark(browser, lab):
    "Opens a notebook, runs it, and puts on the dark theme"
    opened = []
    def show(name):
        opened.append(lesson := Lesson(browser, lab, name))
        lesson.run_all()
        wear(lesson, 'Dark')
        return lesson
    yield show
    for lesson in opened:
        wear(lesson, 'Light')
        assert lesson.errors == []
        lesson.__exit__()

def test_a_lesson_in_the_dark(dark):
    lesson = dark('nbs/00_thirty_minutes')
    assert lesson.page.evaluate(pale) == []
    quiz = lesson.page.locator('.jp-OutputArea-output', has_text='Stage 1 and 2 need no labels. Why?').first
    quiz.get_by_label('They do not train').check()
    expect(quiz).to_contain_text('They train longest of all.')
    assert lesson.page.evaluate(pale) == []
    drawing = lesson.page.get_by_role('img', name='Three stages from left to right').first
    drawing.scroll_into_view_if_needed()
    lesson.picture('dark-lesson-drawing')
    quiz.scroll_into_view_if_needed()
    lesson.picture('dark-lesson-quiz')

widgets = """
import numpy as np, pandas as pd
from ulmfit_course.diagrams import lstm_cell
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer
from ulmfit_course.widgets import ErrorBrowser, PaddingViewer, ScheduleDesigner, TokenInspector
rng = np.random.default_rng(0)
good = rng.random(60) < .5
frame = pd.DataFrame(dict(text=[f'Review {i}' for i in range(60)], label=np.where(good, 'pos', 'neg')))
p = np.clip(.2 + .6*good + rng.normal(0, .2, 60), .01, .99)""", "ScheduleDesigner()", "PaddingViewer(list(range(20, 400, 3)))", \
    "ErrorBrowser(frame, np.stack([1-p, p], 1))", "TokenInspector(dict(words=WordTokenizer()), ['xxunk', 'xxpad', 'a', 'great', 'film'])", "lstm_cell()"

def test_widgets_in_the_dark(lab, dark):
    lab.write('dark', *widgets)
    lesson = dark('dark')
    assert lesson.page.evaluate(pale) == []
    figures = [*on_paper(lesson)]
    assert len(figures) >= 4 and all(figures)
    starts = lesson.panel('Unfreezing').locator('.widget-hslider .slider-container').evaluate_all('all => all.map(o => o.getBoundingClientRect().x)')
    assert len(starts) > 4 and max(starts) - min(starts) < 1, 'sliders begin at one line'
    for view in lesson.page.locator('.widget-vbox > .widget-html').all(): assert view.bounding_box()['height'] <= .86*1000
    for i, output in enumerate(lesson.page.locator('.jp-OutputArea-output').all()): lesson.picture(f'dark-widget-{i}', output)
