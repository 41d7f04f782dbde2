"A browser, and the course's two servers: JupyterLab with a copy of the lessons, Voila with the playgrounds"
import contextlib, io, json, os, re, shutil, socket, subprocess, sys, time, urllib.request, warnings
from base64 import b64decode
from pathlib import Path
import nbformat, numpy as np, pytest
from matplotlib.image import imread
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import TimeoutError as Unfinished, expect, sync_playwright

prompts = '.jp-CodeCell .jp-InputPrompt:not(.jp-Placeholder-prompt)'   # a collapsed cell shows a placeholder without a number
tracebacks = '''[...document.querySelectorAll('[data-mime-type$=".stderr"], [data-mime-type$=".error"]')].map(o => o.textContent)
    .filter(o => o.includes('Traceback (most recent call last)'))'''   # an error has one mime type in some versions of JupyterLab, and another in others
pictures = Path(__file__).resolve().parents[2]/'runs/browser'
expect.set_options(timeout=30_000)

def pytest_collection_modifyitems(items):
    "On a busy machine JupyterLab, a kernel and the browser may miss each other's word; what is broken fails again"
    for o in items:
        if o.path.is_relative_to(Path(__file__).parent): o.add_marker(pytest.mark.flaky(reruns=2))

@pytest.fixture(scope='session')
def browser():
    "Chromium without a window"
    path = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not path: pytest.skip('no Chromium on this machine, so nobody sees the widgets: apt-get install chromium')
    pictures.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path)
        yield browser
        browser.close()

@contextlib.contextmanager
def serving(folder, *words):
    "The address of `ulmfit-course WORDS` on a free port, started in `folder`, stopped at the end"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{s.getsockname()[1]}'
    config = folder/'jupyter/labconfig/page_config.json' # no question about news
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(dict(disabledExtensions={'@jupyterlab/apputils-extension:announcements': True})))
    env = os.environ | dict(ULMFIT_COURSE_PROFILE='tiny', ULMFIT_COURSE_HOME=str(folder/'home'), OMP_NUM_THREADS='1', JUPYTER_CONFIG_DIR=str(folder/'jupyter'), JUPYTER_TOKEN='course')
    command = [sys.executable, '-c', 'import sys; from ulmfit_course.cli import main; sys.exit(main())', *words, '--no-browser', '--port', url.split(':')[-1]]
    with open(folder/'log', 'w') as log, subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) as server:
        try:
            await_server(url, server, folder/'log')
            yield url
        finally: server.terminate()

def await_server(url, server, log, seconds=180):
    "Return when somebody listens at `url`; what the server said if it ended instead"
    for _ in range(5*seconds):
        assert server.poll() is None, log.read_text()
        try: return socket.create_connection(('127.0.0.1', int(url.split(':')[-1]))).close()
        except OSError: time.sleep(0.2)
    raise TimeoutError(log.read_text())

class Page:
    "A page, what went wrong on it, and pictures of it"
    def __init__(self, browser, url):
        self.page, self.errors = browser.new_page(viewport=dict(width=1280, height=1000)), []
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.on('console', lambda m: m.type == 'error' and 'cdn.jsdelivr.net' not in m.location['url'] and self.errors.append(f"{m.text} {m.location['url']}"))  # Voila's fonts, where there is no network
        self.page.goto(url)

    def __enter__(self): return self
    def __exit__(self, *_): self.page.close()
    def picture(self, name, part=None): (part or self.page).screenshot(path=pictures/f'{name}.png')

    def panel(self, control):
        "The widget that has a control of this name"
        name = self.page.locator('.widget-label, button', has_text=re.compile(f'^{re.escape(control)}$'))
        return self.page.locator('.jp-OutputArea-output').filter(has=name)

def slide(panel, control, key):
    "Press a key on the slider of this name"
    panel.locator('.widget-hslider', has_text=control).get_by_role('slider').press(key)

class Lesson(Page):
    "A notebook in JupyterLab, as its reader has it in front of them"
    def __init__(self, browser, lab, name):
        self.lab, self.name = lab, f'{name}.ipynb'
        super().__init__(browser, f'{lab.url}/lab/workspaces/{Path(name).stem}/tree/{self.name}?token=course&reset')
        self.page.add_locator_handler(self.page.locator('.jp-Dialog').last, self.answer, no_wait_after=True)
        expect(self.page.locator('.jp-Notebook-ExecutionIndicator')).to_have_attribute('data-status', 'idle')

    def answer(self, dialog):
        "What JupyterLab asks, as it proposes itself: on a busy machine, which kernel to take, before it has found the notebook's"
        warnings.warn(f'{self.name}: {dialog.inner_text()!r}')
        dialog.locator('.jp-mod-accept').click()

    def __exit__(self, *_):
        "The kernel goes, too; several of them would not fit into memory"
        for o in json.loads(self.ask('GET')):
            if o['path'] == self.name: self.ask('DELETE', o['id'])
        super().__exit__()

    def ask(self, method, session=''): return urllib.request.urlopen(urllib.request.Request(f'{self.lab.url}/api/sessions/{session}?token=course', method=method)).read()

    def menu(self, name, item):
        self.page.get_by_role('menuitem', name=name, exact=True).click()
        self.page.get_by_role('menuitem', name=item, exact=True).click()

    def until(self, name, item, condition):
        "Choose from a menu until the numbers of the cells show that it was heard; a notebook that is still being opened may not hear it"
        for tries in (2, 1, 0):
            try:
                self.menu(name, item)
                return self.page.wait_for_function(f"() => (all => all.length && {condition})([...document.querySelectorAll('{prompts}')].map(o => o.textContent.trim()))", timeout=20_000)
            except Unfinished:
                if not tries: raise
                self.page.keyboard.press('Escape')   # a menu or a dialog that came in between

    def start(self):
        "Run every cell, from the top"
        self.until('Edit', 'Clear Outputs of All Cells', "all.every(o => o == '[ ]:')")
        self.until('Run', 'Run All Cells', "all.some(o => o != '[ ]:')")

    def run_all(self, seconds=240):
        self.start()
        return self.finish(seconds)

    def finish(self, seconds=240):
        "Wait for the last cell; an error is a fault"
        self.page.wait_for_function(f'''prompts => {tracebacks}.length
            || ![...document.querySelectorAll(prompts)].some(o => /\\[[ *]\\]/.test(o.textContent))
                && document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status == "idle"''', arg=prompts, timeout=1000*seconds)
        assert self.page.evaluate(f'() => {tracebacks}') == []
        return self

def wear(lesson, theme):
    "A theme of JupyterLab, by its menu"
    for item in ('Settings', 'Theme', f'JupyterLab {theme}'):
        lesson.page.locator('.lm-MenuBar-itemLabel, .lm-Menu-itemLabel').get_by_text(item, exact=True).last.click()
    expect(lesson.page.locator('body')).to_have_attribute('data-jp-theme-light', str(theme == 'Light').lower())
    expect(lesson.page.locator('#jupyterlab-splash')).to_have_count(0)   # what hides the page while it changes

@contextlib.contextmanager
def in_the_dark(lesson):
    "JupyterLab's dark theme, and the light one again for who comes next"
    wear(lesson, 'Dark')
    try: yield lesson
    finally: wear(lesson, 'Light')

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

class Lab:
    "Where JupyterLab runs, and the folder that it shows"
    def __init__(self, url, folder): self.url, self.folder = url, folder

    def write(self, name, *code):
        "A notebook of these cells"
        kernel = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
        nbformat.write(new_notebook(metadata=kernel, cells=[new_code_cell(o) for o in code]), self.folder/f'{name}.ipynb')

@pytest.fixture(scope='session')
def lab(browser, tmp_path_factory):
    "JupyterLab on a copy of the lessons"
    folder = tmp_path_factory.mktemp('lab')
    with serving(folder, 'lab', 'lessons') as url: yield Lab(url, folder/'lessons')
