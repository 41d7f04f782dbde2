"The site's front page and its gallery, drawn from the outputs of the notebooks and from the record of the demo"
import ast, html, inspect, json, re
from dataclasses import dataclass
from functools import lru_cache
from os.path import commonprefix
from pathlib import Path
from lessons import lessons, report
from ulmfit_course import training_widgets, widgets
from ulmfit_course.core import themed_html
from ulmfit_course.editions import cells_of
from ulmfit_course.panels import Panel
from ulmfit_course.report import labels_figure, predictions_html

here = Path(__file__).resolve().parent
nbs = here.parent/'nbs'

cells = lru_cache(cells_of)   # each notebook is asked for many pictures

def html_of(
    cell:dict, # a code cell
) -> str: # nothing where it shows no HTML
    "What it has displayed"
    return next((''.join(o['data']['text/html']) for o in cell.get('outputs', []) if 'text/html' in o.get('data', {})), '')

def title_of(path): return re.match(r'# (.+)', cells(path)[0]['source'])[1]
def motto_of(path): return re.search(r'^> (.+)', cells(path)[0]['source'], re.M)[1]
def number_of(path): return path.stem[:2]

# Widgets and diagrams

@dataclass
class Shown:
    "A picture that a notebook has kept"
    name: str     # what it is called
    told: str     # one line
    picture: str  # HTML
    path: Path    # the notebook

def widget_classes() -> list: # of classes
    "What can be turned"
    found = [getattr(m, n) for m in (widgets, training_widgets) for n in m.__all__]
    return [o for o in found if isinstance(o, type) and issubclass(o, Panel) and '__init__' in vars(o)]

def is_shown(
    name:str, # of a class
    source:str, # of a cell
    held:set, # variables that hold one
) -> bool:
    "Whether the last line of the cell shows a widget of this class"
    try: last = ast.unparse(ast.parse(source).body[-1])
    except (SyntaxError, IndexError): return False
    return last in held or re.match(rf'(\w+ = )?(display\()?({name}\(|({"|".join(held) or "-"})\b)', last) is not None

def still_of(
    name:str, # of a class
) -> tuple: # HTML and the notebook; of a lesson, if one has it
    "The widget's still picture"
    paths = [*lessons(), *sorted((nbs/'tutorials').glob('*.ipynb')), *sorted((nbs/'library').glob('*widgets.ipynb'))]
    for path in paths:
        held = set()
        for c in cells(path):
            held |= set(re.findall(rf'^(\w+) = {name}\(', c['source'], re.M))
            if c['cell_type'] == 'code' and html_of(c) and is_shown(name, c['source'], held): return html_of(c), path

def all_widgets() -> list: # of `Shown`
    "Every widget that some notebook shows"
    found = [(o, still_of(o.__name__)) for o in widget_classes()]
    return [Shown(o.__name__, inspect.cleandoc(o.__doc__), *at) for o,at in found if at]

def all_diagrams() -> list: # of `Shown`
    "Every drawing of the lessons, once"
    found = {}
    for path in lessons():
        heading = title_of(path)
        for c in cells(path):
            if c['cell_type'] == 'markdown': heading = (re.findall(r'^#+ (?!Exercise)(.+)', c['source'], re.M) or [heading])[-1]
            drawn = html_of(c)
            if drawn.startswith('<svg'):
                told = html.unescape(re.search(r'aria-label="([^"]*)"', drawn)[1])
                found.setdefault(drawn, Shown(heading, re.match(r'.*?[.:](?=\s|$)', told + '.')[0].rstrip('.:') + '.', drawn, path))
    return [*found.values()]

def raw(source): return f'`````{{raw}} html\n{source}\n`````'

def entry(
    shown:Shown, # a widget or a diagram
) -> str: # Markdown
    "One picture of the gallery, with the way to its notebook"
    at = shown.path.relative_to(nbs)
    kind = 'Lesson' if at.parent == Path('.') else 'Tutorial' if at.parts[0] == 'tutorials' else 'Library'
    return f'### {shown.name}\n\n{shown.told} [{kind}: {title_of(shown.path)}]({at.as_posix()})\n\n{raw(f"""<div class="still">{shown.picture}</div>""")}\n'

def gallery() -> str: # Markdown
    "Every widget and every diagram"
    page = (here/'gallery.md').read_text('utf8')
    return page.format(widgets='\n'.join(map(entry, all_widgets())), diagrams='\n'.join(map(entry, all_diagrams())))

# Front page

buttons = {'to learn': ('00_thirty_minutes', 'Begin with lesson 00'), 'to teach': ('teaching/index', "Open the teacher's pages"),
           'to build': ('tutorials/01_quick_start', 'Open the quick start')}

def tracks() -> str: # Markdown
    "A card for each of the ways that the front door names"
    rows = next(''.join(o['data']['text/markdown']) for c in cells(nbs/'index.ipynb') for o in c.get('outputs', [])
                if '| to learn |' in ''.join(o.get('data', {}).get('text/markdown', '')))
    found = dict((k, rest) for k,*rest in re.findall(r'^\| (to \w+) \| (.+?) \| (.+?) \|$', rows, re.M))
    def card(name, told, time):
        page, says = buttons[name]
        return (f'::::{{grid-item-card}} {name.capitalize()}\n{told}\n\n**{time}**\n\n'
                f'```{{button-ref}} {page}\n:ref-type: doc\n:color: primary\n:outline:\n:expand:\n{says}\n```\n::::\n')
    return '\n'.join(card(k, *v) for k,v in found.items())

def lesson_cards() -> str: # Markdown
    "A card a lesson: what it is about, and the minutes that it takes"
    def card(path):
        return (f'::::{{grid-item-card}} {number_of(path)} {title_of(path)}\n:link: {path.stem}\n:link-type: doc\n'
                f'{motto_of(path)}\n\n{report(path)["study"]} minutes\n::::\n')
    return '\n'.join(map(card, lessons()))

def front() -> str: # Markdown
    "The first page"
    run = json.loads((nbs/'results/demo.json').read_text('utf8'))
    found = run['report']
    figure = themed_html(*labels_figure(found['rows'], found['n_test']))
    prompt = commonprefix([*found['generated'].values()])   # what all of them were given
    written = found['generated']['imdb-small'].removeprefix(prompt)
    shortest = min(found['predictions'], key=lambda p: len(p['tokens']))
    stages = next(html_of(c) for c in cells(nbs/'00_thirty_minutes.ipynb') if c['source'].endswith('three_stages()'))
    parts = dict(motto=html.escape(motto_of(nbs/'index.ipynb')), stages=stages, date=run['date'], figure=figure, verdict=found['verdict'],
                 review=predictions_html([shortest]), prompt=html.escape(prompt), written=html.escape(written),
                 widget=still_of('DropoutViewer')[0], tracks=tracks(), lessons=lesson_cards())
    return (here/'front.md').read_text('utf8').format(**parts)
