"The playgrounds as Voila shows them"
import re, pytest
from playwright.sync_api import expect
from conftest import Page, serving

pytestmark = pytest.mark.slow

@pytest.fixture(scope='module')
def app(browser, tmp_path_factory):
    "The page, with a classifier that `ulmfit-course app` has trained for it"
    with serving(tmp_path_factory.mktemp('app'), 'app') as url, Page(browser, url) as page:
        expect(page.page.get_by_label('Review', exact=True)).to_be_visible(timeout=120_000)
        yield page

def test_page_shows_no_code_and_no_error(app):
    expect(app.page.get_by_role('heading', name='The playgrounds')).to_be_visible()
    assert 'load_bundle' not in app.page.locator('body').inner_text()
    assert app.errors == []

def test_a_text_becomes_tokens(app):
    tokens = app.panel('Tokenizer')
    tokens.get_by_label('Text', exact=True).fill('WOW, a zxqvish film!!!')
    expect(tokens).to_contain_text('xxup wow')
    expect(tokens).to_contain_text('1 unknown')
    app.picture('app-tokens', tokens)

def test_a_review_moves_the_probability(app):
    explorer = app.panel('Review')
    def said(text):
        before = explorer.locator('table').first.inner_text()
        explorer.get_by_label('Review', exact=True).fill(text)
        expect(explorer.locator('table').first).not_to_have_text(before, use_inner_text=True)
        return float(re.search(r'pos\s+([\d.]+)%', explorer.locator('table').first.inner_text())[1])
    good, bad = said('A wonderful film, and the actors are great.'), said('A boring film, and the actors are awful.')
    app.picture('app-review', explorer)
    assert 0 <= bad <= 100 and good != bad
    assert app.errors == []

def test_a_text_has_an_end(app):
    explorer = app.panel('Review')
    field = explorer.get_by_label('Review', exact=True)
    field.fill('A good film. '*500 + '<b>$\\frac$</b>')
    expect(explorer).to_contain_text('only the first 5,000 characters are read', timeout=60_000)
    expect(field).to_have_value(('A good film. '*500)[:5000])   # the page is told what was kept
    expect(explorer.get_by_role('button', name='Leave out each word')).to_be_disabled()
    expect(explorer).to_contain_text('Each word can be left out of a text of up to 400 tokens')
    field.fill('A <b>$\\frac$</b> film.')
    expect(explorer).not_to_contain_text('only the first')
    assert explorer.locator('.widget-html b', has_text='frac').count() == 0
    app.picture('app-limits', explorer)
    assert app.errors == []
