"The site: it builds without a word, asks nobody else for anything, finds words, and can be read on a phone and in the dark"
import importlib.util, re, subprocess, sys, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pytest
from playwright.sync_api import expect
from conftest import pictures

pytestmark = pytest.mark.slow
root = Path(__file__).resolve().parents[2]

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass

def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found

@pytest.fixture(scope='module')
def built():
    "The folder of the site, and what Sphinx said"
    run = subprocess.run([sys.executable, root/'docs/build.py'], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return root/'docs/_build/html', run.stderr

@pytest.fixture(scope='module')
def served(built):
    "The address of the site"
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=built[0])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()

@pytest.fixture
def visit(browser, served):
    "Opens a page of the site, and notes what is asked of others"
    context = browser.new_context()
    def open_(path, width=1400, dark=False):
        page = context.new_page()
        page.set_viewport_size(dict(width=width, height=1000))
        page.emulate_media(color_scheme='dark' if dark else 'light')
        page.elsewhere, page.errors = [], []
        page.on('request', lambda r: r.url.startswith((served, 'data:')) or page.elsewhere.append(r.url))
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.goto(f'{served}/{path}', wait_until='load')
        return page
    yield open_
    context.close()

def test_site_builds(built):
    site, said = built
    build = module(root/'docs/build.py')
    assert 'WARNING' not in said, said
    for p in build.notebooks(): assert '#| ' not in (site/build.place(p).relative_to(build.pages).with_suffix('.html')).read_text('utf8')
    for m in build.modules(): assert re.search(f'id="ulmfit_course.{m}|Its names: ', (site/f'api/{m}.html').read_text('utf8')), m
    assert not [p for p in site.rglob('*') if 'assignments' in p.relative_to(site).parts and p.is_dir()], 'the assignments hold their solutions'

def test_reference_says_only_what_is_ours(built):
    pages = [*(built[0]/'api').glob('*.html')]
    assert len(pages) > 50
    for p in pages: assert not re.search('Should be overridden|Define the computation performed', p.read_text('utf8')), p.name

def test_no_page_names_a_resource_elsewhere(built):
    pages = [*built[0].rglob('*.html')]
    assert len(pages) > 150
    for p in pages:
        found = re.findall(r'<(?:script|link|img|iframe|source)\b[^>]*?\s(?:src|href)="(?:https?:)?//[^"]+', p.read_text('utf8'))
        assert not found, (p.name, found)

def test_gallery_has_every_widget_and_every_diagram(built):
    page, front = (built[0]/'gallery.html').read_text('utf8'), module(root/'docs/front.py')
    names = [o.__name__ for o in front.widget_classes()]
    assert len(names) > 8 and [n for n in names if f'>{n}<a class="headerlink"' not in page] == []
    assert len(front.all_diagrams()) > 10 and page.count('<div class="still">') == len(names) + len(front.all_diagrams())

views = 'index.html', '03_batching.html', '13_sequences.html', 'gallery.html', 'api/awd_lstm.html', 'glossary.html', 'overview.html'

@pytest.mark.parametrize('path', views)
@pytest.mark.parametrize('width, dark', [(1400, True), (390, False)])
def test_page(visit, path, width, dark):
    page = visit(path, width, dark)
    expect(page.locator('article h1').first).to_be_visible()
    page.wait_for_function('() => [...document.images].every(o => o.complete && o.naturalWidth)')
    assert page.elsewhere == [] and page.errors == []
    assert page.evaluate('() => document.documentElement.scrollWidth - innerWidth') <= 1, 'nothing moves sideways'
    colour = page.evaluate('() => getComputedStyle(document.body).backgroundColor')
    assert (max(map(int, re.findall(r'\d+', colour)[:3])) < 60) is dark
    if dark: assert page.evaluate("() => [...document.querySelectorAll('.cell_output img[src^=data], .still img')].every(o => getComputedStyle(o).backgroundColor == 'rgba(0, 0, 0, 0)')")
    page.screenshot(path=pictures/f'site-{Path(path).stem}-{width}-{"dark" if dark else "light"}.png')

def test_search_finds(visit):
    page = visit('search.html?q=perplexity')
    expect(page.locator('ul.search li').first).to_be_visible()
    expect(page.locator('#search-results')).to_contain_text('Search finished')
    links = page.locator('ul.search li a').evaluate_all('all => all.map(o => o.getAttribute("href"))')
    assert any('05_pretraining' in o for o in links) and any('glossary' in o for o in links)
    assert page.elsewhere == []
    page.screenshot(path=pictures/'site-search.png')
    page.goto(page.url.replace('perplexity', 'nosuchwordatall'))
    expect(page.locator('#search-results')).to_contain_text('did not match any documents')
