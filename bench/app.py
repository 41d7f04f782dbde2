"""A class on `ulmfit-course app`: `python bench/app.py [--visitors N] [--model BUNDLE] [--quick] [--json]`

So many browsers ask for a playground at once, a third of them for each, and all type into it at the same time. What
that costs in memory, how long they wait, and what one more visitor is told, goes to `bench/results/app.json`. The
browsers run on the machine that they measure: in a class each has its own, and waits less."""
import argparse, asyncio, json, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
import psutil

here = Path(__file__).resolve().parent
view = '.widget-html-content'   # of a panel; what it shows changes when the answer is there

async def say(page, label, k): await page.get_by_label(label, exact=True).fill(f'A film number {k}, dull at first and wonderful in the end.')
async def one_word(page, k): await page.get_by_role('button', name='One word').click()

acts = {'tokens': lambda page, k: say(page, 'Text', k), 'next-word': one_word, 'why': lambda page, k: say(page, 'Review', k)}

@contextmanager
def serving(bundle, visitors, folder):
    "Address and process of the app"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    words = ['app', '--model', bundle, '--visitors', visitors, '--no-browser', '--port', port]
    with open(folder/'log', 'w') as log, subprocess.Popen([sys.executable, '-m', 'ulmfit_course', *map(str, words)], stdout=log, stderr=log) as server:
        try:
            while True:
                if server.poll() is not None: raise SystemExit((folder/'log').read_text())
                try: socket.create_connection(('127.0.0.1', port)).close()
                except OSError: time.sleep(.2)
                else: break
            yield f'http://127.0.0.1:{port}/', psutil.Process(server.pid)
        finally: server.send_signal(signal.SIGTERM)

def memory_mb(process):
    "What a process has for itself, and its part of what it shares"
    held = process.memory_full_info()
    return getattr(held, 'pss', held.rss)/2**20

async def timed(work):
    began = time.perf_counter()
    await work
    return time.perf_counter() - began

async def come_in(page, url):
    "From the click until the playground is there"
    async def until_there():
        await page.goto(url, timeout=300_000)
        await page.locator(view).first.wait_for(timeout=300_000)
    return await timed(until_there())

async def play(page, act, times, pause=1):
    "How long each answer takes"
    async def once(k):
        before = await page.locator(view).first.inner_html()
        await act(page, k)
        await page.wait_for_function('([view, before]) => document.querySelector(view).innerHTML != before', arg=[view, before], timeout=120_000)
    took = []
    for k in range(times):
        took.append(await timed(once(k)))
        await asyncio.sleep(pause)
    return took

async def knock(browser, url):
    "What is said to one who finds no place"
    page = await (await browser.new_context()).new_page()
    began = time.perf_counter()
    answer = await page.goto(url, timeout=300_000)
    seconds, heading = time.perf_counter() - began, (await page.locator('h1').first.inner_text()).rstrip('¶')
    again = await page.get_by_role('link', name='Try again now').count()
    await page.context.close()
    return dict(status=answer.status, seconds=round(seconds, 2), heading=heading, can_try_again=bool(again))

async def a_class(url, server, n, times):
    "The whole measurement"
    from playwright.async_api import async_playwright
    chromium = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    empty = memory_mb(server)
    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=chromium)
        front = await timed((await browser.new_page()).goto(url))
        first = await (await browser.new_context()).new_page()
        alone = await come_in(first, url+'why')
        await first.goto(url)   # the place is free again
        pages = [await (await browser.new_context()).new_page() for _ in range(n)]
        names = [list(acts)[i % len(acts)] for i in range(n)]
        waited = await asyncio.gather(*[come_in(page, url+name) for page,name in zip(pages, names)])
        answers = await asyncio.gather(*[play(page, acts[name], times) for page,name in zip(pages, names)])
        kernels = [memory_mb(k) for k in server.children()]
        total = memory_mb(server) + sum(kernels)
        further = await knock(browser, url+'why')
        await pages[0].goto(url)   # back to the front page: the place is free again
        after = await knock(browser, url+'why')
        await browser.close()
    return dict(server_mb=empty, total_mb=total, visitor_mb=dict(median=statistics.median(kernels), worst=max(kernels)), front_page_seconds=front, one_alone_seconds=alone,
        **{'page, seconds': spread(waited), 'interaction, seconds': spread([o for some in answers for o in some])},
        interactions=sum(map(len, answers)), one_more=further, after_one_left=after)

def spread(values): return {'median': statistics.median(values), '90th percentile': statistics.quantiles(values, n=10)[-1], 'worst': max(values)}

def rounded(o): return {k: rounded(v) for k,v in o.items()} if isinstance(o, dict) else round(o, 2) if isinstance(o, float) else o

def main():
    parser = argparse.ArgumentParser(description='a class on the app: memory, waiting, and what one more visitor is told')
    parser.add_argument('--visitors', type=int, default=10)
    parser.add_argument('--model', help="a classifier's bundle, else the app's own")
    parser.add_argument('--quick', action='store_true', help='two visitors, nothing kept')
    parser.add_argument('--json', action='store_true', help='print JSON only')
    args = parser.parse_args()
    from ulmfit_course.app import app_bundle, visitor_mb
    from ulmfit_course.core import processor, save_run
    bundle, n, began = app_bundle(args.model), 2 if args.quick else args.visitors, time.perf_counter()
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as tmp, serving(bundle, n, Path(tmp)) as (url, server):
        found = asyncio.run(a_class(url, server, n, 2 if args.quick else 5))
    metrics = dict(visitors=n, processor=processor(), cores=os.cpu_count(), load_before=busy, said_mb=visitor_mb(bundle), **found)
    config, seconds = dict(visitors=n, quick=args.quick, command='python bench/app.py'), time.perf_counter()-began
    if not args.quick: save_run(here/'results/app.json', config, rounded(metrics), seconds)
    print(json.dumps(rounded(metrics), indent=None if args.json else 1))

os.environ.setdefault('ULMFIT_COURSE_PROFILE', 'cpu')
if __name__ == '__main__': main()
