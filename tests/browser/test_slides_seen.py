"Slides in a browser: nothing is fetched, everything is drawn, nothing runs over the edge"
import pytest
from ulmfit_course.lab import lesson_files
from ulmfit_course.slides import notebook_at, read_notebook, slides_html
from conftest import pictures

pytestmark = pytest.mark.slow
# Opens each slide, with all that comes by further keys, and lists what is beyond its edge, what is not drawn, what is too small to read
walk = '''() => deck.getSlides().map((slide, i) => {
    const at = deck.getIndices(slide)
    deck.slide(at.h, at.v)
    const edge = slide.getBoundingClientRect(), by = 2*deck.getScale()
    const over = o => { const r = o.getBoundingClientRect(); return r.width && (r.right > edge.right+by || r.bottom > edge.bottom+by || r.left < edge.left-by) }
    const own = [...slide.querySelectorAll('*')].filter(o => !o.closest('aside, svg, math') && !o.closest('.shown')?.parentElement.matches('.cut'))
    const texts = own.filter(o => [...o.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()))
    return {slide: i + 1, cut: slide.matches('.cut'), over: own.filter(over).map(o => o.outerHTML.slice(0, 80)),
        missing: [...slide.querySelectorAll('img')].filter(o => !o.complete || !o.naturalWidth).length,
        smallest: Math.min(99, ...texts.map(o => parseFloat(getComputedStyle(o).fontSize)))}
})'''

@pytest.fixture
def opened(browser, tmp_path):
    "Opens the slides of a lesson on a screen, and notes what they ask for"
    pages = []
    def open_(name, width=1280, height=720, scheme='light'):
        path = tmp_path/f'{name}.html'
        path.write_text(slides_html(read_notebook(notebook_at(name)), name), encoding='utf8')
        page = browser.new_page(viewport=dict(width=width, height=height), color_scheme=scheme)
        pages.append(page)
        page.asked, page.errors = [], []
        page.on('request', lambda r: page.asked.append(r.url))
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.on('console', lambda m: m.type == 'error' and page.errors.append(m.text))
        page.goto(path.as_uri())
        page.wait_for_function('() => deck.isReady()')
        return page
    yield open_
    for page in pages: page.close()

@pytest.mark.parametrize('name', [p.stem for p in lesson_files().values()])
def test_slides_of_a_lesson(opened, name):
    page = opened(name)
    found = page.evaluate(walk)
    assert len(found) >= 12
    assert not [o for o in found if o['over'] or o['missing']]
    assert not [o for o in found if o['smallest'] < 14], 'of 720 lines'
    assert sum(o['cut'] for o in found) <= 2
    assert [o for o in page.asked if not o.startswith(('file:', 'data:'))] == [] and page.errors == []

def test_large_screen_in_the_dark(opened):
    page = opened('00', 1920, 1080, 'dark')
    assert not [o for o in page.evaluate(walk) if o['over'] or o['missing']]
    colour = lambda: page.evaluate('() => getComputedStyle(document.body).backgroundColor')
    assert (dark := colour()) != 'rgb(255, 255, 255)'
    page.keyboard.press('d')
    assert colour() == 'rgb(255, 255, 255)' != dark

def test_answer_comes_with_the_next_key(opened):
    page = opened('00')
    page.evaluate('() => { const s = document.querySelector(".fragment").closest("section"), at = deck.getIndices(s); deck.slide(at.h, at.v, -1) }')
    answer = page.locator('section.present:not(.stack) .fragment')
    page.wait_for_function('() => getComputedStyle(document.querySelector("section.present:not(.stack) .fragment")).opacity == 0')
    page.keyboard.press('Space')
    page.wait_for_function('() => getComputedStyle(document.querySelector("section.present:not(.stack) .fragment")).opacity == 1')
    assert 'percent' in answer.inner_text()
    page.screenshot(path=pictures/'slides-answer.png')
