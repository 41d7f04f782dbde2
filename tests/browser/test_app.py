"The playgrounds as a class sees them: on a projector, on a phone, in the dark, without a network, and when all places are taken"
import re, pytest
from playwright.sync_api import expect
from conftest import Page, serving

pytestmark = pytest.mark.slow
projector, phone = dict(width=1920, height=1080), dict(width=390, height=844)
playgrounds = {'tokens': ('What does a model read?', 'Text'), 'next-word': ('What comes next?', 'Prompt'), 'why': ('What is it worth, and why?', 'Review')}
sizes = """() => [...document.querySelectorAll('main *, #rendered_cells *')].filter(o => !o.closest('.picture, style, script, svg, sub, sup, small')
    && o.getClientRects().length && [...o.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()))
    .map(o => parseFloat(getComputedStyle(o).fontSize)).sort((a, b) => a - b)"""
sideways = '() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth'
is_light = 'o => getComputedStyle(o).backgroundColor.match(/\\d+/g).slice(0, 3).every(v => v > 128)'

class Seen(Page):
    "A page of the app, and whom it asked besides this machine"
    def __init__(self, browser, url):
        self.context, self.errors, self.asked = browser.new_context(viewport=projector, color_scheme='light'), [], []
        self.page = self.context.new_page()
        self.page.on('request', lambda r: re.match(r'(https?|wss?)://(?!127\.0\.0\.1)', r.url) and self.asked.append(r.url))
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.on('console', lambda m: m.type == 'error' and self.errors.append(m.text))
        self.answer = self.page.goto(url, timeout=180_000)   # until the last cell has run

    def __exit__(self, *_):
        self.page.goto('about:blank')   # leaves, and gives up the place
        self.context.close()

    def panel(self, control):
        name = self.page.locator('.widget-label', has_text=re.compile(f'^{re.escape(control)}$'))
        return self.page.locator('.jp-OutputArea-output').filter(has=name)

@pytest.fixture(scope='module')
def app(browser, tmp_path_factory):
    "The app for three, with a classifier that it has trained"
    with serving(tmp_path_factory.mktemp('app'), 'app', '--visitors', '3') as url: yield url

@pytest.fixture(scope='module')
def pages(browser, app):
    "The front page, and a visitor at each playground"
    seen = {name: Seen(browser, f'{app}/{name}') for name in ('', *playgrounds)}
    for name,(_, control) in playgrounds.items(): expect(seen[name].page.get_by_label(control, exact=True)).to_be_visible(timeout=120_000)
    yield seen
    for o in seen.values(): o.__exit__()

def test_the_front_page_leads_to_the_playgrounds(pages):
    cards = pages[''].page.locator('.card')
    assert cards.evaluate_all('all => all.map(o => o.pathname)') == [f'/{name}' for name in playgrounds]
    assert cards.locator('h2').all_inner_texts() == [title for title,_ in playgrounds.values()]
    assert all(len(o) > 300 for o in cards.locator('.picture').all_inner_texts())
    expect(pages[''].page.get_by_text('At most 3 visitors at a time')).to_be_visible()

@pytest.mark.parametrize('name', playgrounds)
def test_a_playground_speaks_of_no_code(pages, name):
    page = pages[name].page
    expect(page.get_by_role('heading', name=playgrounds[name][0])).to_be_visible()
    expect(page).to_have_title(playgrounds[name][0])
    assert not re.search(r'load_|import |\bcells?\b|\bcode\b|notebook|kernel|\brun the\b|Executing', page.locator('body').inner_text())

@pytest.mark.parametrize('name', ['', *playgrounds])
def test_the_last_row_can_read_it(pages, name):
    page = pages[name].page
    found = page.evaluate(sizes)
    assert found[0] >= 17 and found[len(found)//10] >= 22, found   # below a token its number is smaller
    starts = page.locator('.widget-hslider .slider-container').evaluate_all('all => all.map(o => o.getBoundingClientRect().x)')
    assert max(starts, default=0) - min(starts, default=0) < 1, 'sliders begin at one line'
    assert page.evaluate(sideways) == 0
    pages[name].picture(f'app-{name or "front"}')

@pytest.mark.parametrize('name', ['', *playgrounds])
def test_on_a_phone_nothing_lies_beside_the_screen(pages, name):
    page = pages[name].page
    page.set_viewport_size(phone)
    pages[name].picture(f'app-{name or "front"}-phone')
    assert page.evaluate(sideways) == 0 and page.evaluate(sizes)[0] >= 12
    page.set_viewport_size(projector)

@pytest.mark.parametrize('name', ['', *playgrounds])
def test_dark_where_the_system_is(pages, name):
    page = pages[name].page
    body = page.locator('body')
    page.emulate_media(color_scheme='dark')
    expect(body).to_have_attribute('data-jp-theme-light', 'false')   # the page hears of it, and then it is dark
    assert not body.evaluate(is_light)
    pages[name].picture(f'app-{name or "front"}-dark')
    page.get_by_role('button', name='Light').click()   # and as the visitor says
    expect(body).to_have_attribute('data-jp-theme-light', 'true')
    assert body.evaluate(is_light)
    page.emulate_media(color_scheme='light')

def test_a_text_becomes_tokens(pages):
    tokens = pages['tokens'].panel('Tokenizer')
    tokens.get_by_label('Text', exact=True).fill('WOW, a zxqvish film!!!')
    expect(tokens).to_contain_text('xxup wow')
    expect(tokens).to_contain_text('1 unknown')

def test_models_go_on(pages):
    page = pages['next-word'].page
    assert page.evaluate("document.fonts.load('900 1rem \"Font Awesome 5 Free\"').then(o => o.length)") == 1, 'the pictures on buttons'
    before = page.locator('.widget-html-content').first.inner_text()
    page.get_by_role('button', name='Go on').click()
    expect(page.locator('.widget-html-content').first).not_to_have_text(before, use_inner_text=True)
    page.get_by_role('button', name='Stop').click()
    expect(page.get_by_role('button', name='Go on')).to_be_visible()

def test_a_review_moves_the_probability(pages):
    explorer = pages['why'].panel('Review')
    def said(text):
        before = explorer.locator('table').first.inner_text()
        explorer.get_by_label('Review', exact=True).fill(text)
        expect(explorer.locator('table').first).not_to_have_text(before, use_inner_text=True)
        return float(re.search(r'pos\s+([\d.]+)%', explorer.locator('table').first.inner_text())[1])
    good, bad = said('A wonderful film, and the actors are great.'), said('A boring film, and the actors are awful.')
    assert 0 <= bad <= 100 and good != bad

def test_a_text_has_an_end(pages):
    explorer = pages['why'].panel('Review')
    field = explorer.get_by_label('Review', exact=True)
    field.fill('A good film. '*500 + '<b>$\\frac$</b>')
    expect(explorer).to_contain_text('only the first 5,000 characters are read', timeout=60_000)
    expect(field).to_have_value(('A good film. '*500)[:5000])   # the page is told what was kept
    expect(explorer.get_by_role('button', name='Leave out each word')).to_be_disabled()
    expect(explorer).to_contain_text('Each word can be left out of a text of up to 400 tokens')
    field.fill('A <b>$\\frac$</b> film.')
    expect(explorer).not_to_contain_text('only the first')
    assert explorer.locator('.widget-html b', has_text='frac').count() == 0

def test_all_places_are_taken_and_one_is_lost(browser, app, pages):
    assert all(o.errors == [] and o.asked == [] for o in pages.values()), {name: (o.errors, o.asked) for name,o in pages.items()}
    with Seen(browser, f'{app}/why') as late:
        assert late.answer.status == 503
        expect(late.page.get_by_role('heading', name='All places are taken')).to_be_visible()
        assert late.page.evaluate(sizes)[0] >= 22 and late.asked == []
        late.picture('app-full')
        lost = pages['tokens'].page
        kernel = lost.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
        gone = lost.evaluate("([id, xsrf]) => fetch(`/api/kernels/${id}`, {method: 'DELETE', headers: {'X-XSRFToken': xsrf}}).then(o => o.status)",
            [kernel, next((o['value'] for o in pages['tokens'].context.cookies() if o['name'] == '_xsrf'), '')])   # as if it had been idle
        assert gone == 204
        lost.evaluate('look()')
        expect(lost.get_by_text('Nobody touched this playground for 20 minutes')).to_be_visible()
        pages['tokens'].picture('app-gone')
        late.page.get_by_role('link', name='Try again now').click()
        expect(late.page.get_by_label('Review', exact=True)).to_be_visible(timeout=120_000)
