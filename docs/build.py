"Build the site in docs/_build/html: the lessons with the outputs they were saved with, and a reference from the docments"
import importlib, inspect, json, re, sys
from pathlib import Path
from fastcore.docments import docments, empty
from sphinx.cmd.build import main as sphinx

here = Path(__file__).resolve().parent
root, pages, site = here.parent, here/'_build/pages', here/'_build/html'
sys.path[:0] = [str(here), str(root/'tools')]
from front import front, gallery, title_of
from outputs import still
from readme import split_source
from ulmfit_course.editions import teaching_pages
from ulmfit_course.glossary import course_errors, known_errors, term_of, terms, words_pattern
package = 'ulmfit_course'

# Lessons

def cell_tags(
    directives:list, # of a code cell, such as `echo: false`
) -> list: # tags that myst-nb reads
    "What myst-nb calls nbdev's directives"
    names = {'echo: false': 'remove-input', 'output: false': 'remove-output', 'export': 'exported', 'exports': 'exported'}
    return [names[o] for o in directives if o in names]

def page_cell(
    cell:dict, # a cell as the notebook has it
) -> dict | None: # the cell as the site shows it
    "Directives become tags; what JupyterLab folds is folded; hidden and empty cells go"
    if cell['cell_type'] != 'code': return cell
    directives, source = split_source(''.join(cell['source']))
    if not source or 'hide' in directives: return None
    folded = ['hide-input']*bool(cell['metadata'].get('jupyter', {}).get('source_hidden'))
    metadata = {**cell['metadata'], 'tags': [*cell['metadata'].get('tags', []), *cell_tags(directives), *folded]}
    return {**cell, 'metadata': metadata, 'source': source, 'outputs': [o for o in map(still, cell['outputs']) if o]}

def lesson(
    path:Path, # a notebook
) -> str: # the notebook as JSON, ready for myst-nb
    "The lesson as a page, with a link to its module's reference"
    nb = json.loads(path.read_text('utf8'))
    cells, seen = [o for o in map(page_cell, nb['cells']) if o], set()
    cells = [{**c, 'source': ''.join(c['source']).replace('](index.ipynb', '](overview.ipynb')} for c in cells]
    if is_lesson(path): cells = [{**c, 'source': with_terms(''.join(c['source']), seen)} if c['cell_type'] == 'markdown' else c for c in cells]
    up = '../'*(len(path.relative_to(root/'nbs').parts) - 1)
    if path.name == 'index.ipynb': cells = list(map(cell_within, cells))
    elif (module := exported_module(nb)): cells.append(markdown(f'Reference: [{package}.{module}]({up}api/{module}.md)'))
    return json.dumps({**nb, 'cells': cells, 'metadata': {**nb['metadata'], 'language_info': dict(name='python', pygments_lexer='ipython3')}})

def place(path): return pages/path.relative_to(root/'nbs').with_stem('overview' if path.name == 'index.ipynb' else path.stem)
def is_lesson(path): return path.parent == root/'nbs' and path.name[0].isdigit()

_kept = re.compile(r'(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>|^[#|>].*?$)', re.S | re.M)

def prose(
    source:str, # Markdown
) -> list: # of texts
    "What is read as sentences: no code, formula, link, tag, heading, table or motto"
    return _kept.split(source)[::2]

def with_terms(
    source:str, # Markdown
    seen:set, # terms that have their link; those that are found here are added
) -> str: # Markdown of MyST
    "The first use of a term of the glossary, as a link to it"
    every = words_pattern(tuple(n for t in terms().values() for n in t.names))
    def link(m):
        name = term_of(m[0]).term
        if name in seen: return m[0]
        seen.add(name)
        return '{term}`' + (name if m[0] == name else f'{m[0]} <{name}>') + '`'
    return ''.join(part if i % 2 else every.sub(link, part) for i,part in enumerate(_kept.split(source)))

def within(
    source:str, # Markdown of a file in the repository
) -> str:
    "Links to what the site has as pages: notebooks, and the project's own files"
    return re.sub(r'\]\((?:\.\./|nbs/)?(?:docs/(?=teaching/))?(?=[\w/]+\.(?:ipynb|md)\))', '](', source)

def cell_within(
    cell:dict, # of a notebook
) -> dict:
    "`within`, in what a cell says and in what came of it"
    outputs = [{**o, 'data': {k: within(''.join(v)) if k == 'text/markdown' else v for k,v in o['data'].items()}} if 'data' in o else o
               for o in cell.get('outputs', [])]
    return {**cell, 'source': within(''.join(cell['source'])), **(dict(outputs=outputs) if 'outputs' in cell else {})}

def about_project() -> list: # paths
    "How the project is built, how to change it, what changed"
    return [p for p in (root/f'{name}.md' for name in ('ARCHITECTURE', 'CONTRIBUTING', 'CHANGELOG')) if p.exists()]

def promises() -> str: # Markdown
    "What we promise, with the figures of the last full run of `bench/faults.py`"
    run = json.loads((root/'bench/results/faults.json').read_text('utf8'))
    return (here/'promises.md').read_text('utf8').format(run=run, **run['metrics'])

def glossary() -> str: # Markdown
    "The words of the course"
    at = {p.stem[:2]: p.name for p in notebooks() if is_lesson(p)}
    said = [f"{chr(10).join((t.term, *t.also))}\n  {t.says} [lesson {t.lesson}]({at[t.lesson]})\n" for t in terms().values()]
    return (here/'glossary.md').read_text('utf8').replace('{terms}', '\n'.join(said))

def troubleshooting() -> str: # Markdown
    "The errors that learners meet, and all that the course raises"
    code = lambda text: f"`{cell(text).replace('`', '')}`"
    known = [f"### {' · '.join(e.says).replace('`', '')}\n\n*{e.of}*. {e.cause}\n\n**Mend:** {e.mend}\n" for e in known_errors()]
    def rows(module):
        return '\n'.join(f"| {code(e.cause)} | {code(e.mend) if e.mend else ''} |" for e in course_errors() if e.of == module)
    raised = [f'### {m}\n\n| it says | mend |\n| --- | --- |\n{rows(m)}\n' for m in dict.fromkeys(e.of for e in course_errors())]
    page = (here/'troubleshooting.md').read_text('utf8')
    return page.replace('{known}', '\n'.join(known)).replace('{raised}', '\n'.join(raised))

def markdown(
    source:str, # Markdown
) -> dict: # a notebook cell
    return dict(cell_type='markdown', id='added', metadata={}, source=source)

def exported_module(
    nb:dict, # a notebook
) -> str | None: # the module it makes, if it makes one
    "The name after `default_exp`"
    return next((m[1] for c in nb['cells'] if (m := re.search(r'^#\| *default_exp (\w+)', ''.join(c['source']), re.M))), None)

def notebooks() -> list: # paths, in order
    "Every notebook of the course but the assignments, which hold their solutions"
    found = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    return [p for p in found if not p.is_relative_to(root/'nbs/assignments')]

def contents() -> str: # hidden tables of contents, which fill the side bar
    "Lessons, tutorials, library, reference and project, as Sphinx wants them"
    titles = {place(p).relative_to(pages).with_suffix('').as_posix(): title_of(p) for p in notebooks()}
    plain = lambda folder: [o for o in titles if o.startswith(folder) and 'exercises_' not in o]
    parts = {'Course': ['The course in full <overview>', 'gallery'], 'Lessons': [f'{o[:2]} {t} <{o}>' for o,t in titles.items() if o[0].isdigit()],
             'Tutorials': plain('tutorials/'), 'Library': plain('library/'),
             'Exercises': sorted((o for o in titles if 'exercises_' in o), key=titles.get),
             'Reference': [f'{m} <api/{m}>' for m in modules()],
             'Teaching': [f'teaching/{name}' for name in teaching_pages()], 'Help': ['glossary', 'troubleshooting'],
             'Project': ['promises', *(p.stem for p in about_project())]}
    return '\n\n'.join(f'```{{toctree}}\n:hidden:\n:caption: {k}\n\n' + '\n'.join(v) + '\n```' for k,v in parts.items() if v)

# Reference

def modules() -> dict: # name -> path of its notebook
    "The modules, in the order of the lessons"
    found = {p: exported_module(json.loads(p.read_text('utf8'))) for p in notebooks()}
    return {m: p for p,m in found.items() if m}

def names(
    module:str, # such as `core`
) -> list: # dotted names within the module, methods and patches among them
    "What nbdev exported there, without what is private"
    syms = importlib.import_module(f'{package}._modidx').d['syms'].get(f'{package}.{module}', {})
    short = [o.removeprefix(f'{package}.{module}.') for o in syms]
    own = [o for o in short if not any(part.startswith('_') for part in o.split('.'))]
    order = {o: i for i,o in enumerate(importlib.import_module(f'{package}.{module}').__all__)}
    return sorted(own, key=lambda o: order.get(o.split('.')[0], len(order)))

def cell(
    value, # anything
) -> str: # one cell of a Markdown table
    "Text that does not break the table"
    return str(value).replace('|', '\\|').replace('\n', ' ')

def type_name(
    anno, # an annotation
) -> str:
    "The annotation as it was written"
    if anno in (empty, None, type(None)): return '' # docments takes a type from the default
    return f'`{anno.__name__ if isinstance(anno, type) else str(anno).replace("typing.", "")}`'

def default(
    value, # of a parameter
) -> str:
    "The default as it was written, a function by its name"
    return '' if value is empty else f'`{getattr(value, "__name__", None) or repr(value)}`'

def table(
    params:dict, # as `docments(..., full=True)` gives them
) -> str: # a Markdown table
    "One row a parameter, the comment behind it last"
    rows = [(f'`{k}`' if k != 'return' else '**returns**', type_name(v['anno']), default(v['default']), v['docment'] or '') for k,v in params.items()]
    rows = [o for o in rows if o[0] != '**returns**' or o[1] or o[3]]
    if not rows: return ''
    head = ['', 'type', 'default', '']
    keep = [i for i in range(4) if i == 0 or any(o[i] for o in rows)]
    return '\n'.join('| ' + ' | '.join(cell(o[i]) for i in keep) + ' |' for o in [head, ['---']*4, *rows])

def signature(
    params:dict, # as `docments(..., full=True)` gives them
) -> str: # such as `(words, counts=None)`
    "The names, and defaults that are short"
    stars = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}
    def one(k, v):
        short = v['default'] if isinstance(v['default'], (int, float, str, bool, type(None))) else '...'
        return stars.get(v.get('kind'), '') + k + ('' if v['default'] is empty else f'={short!r}' if short != '...' else '=...')
    return '(' + ', '.join(one(k, v) for k,v in params.items() if k != 'return') + ')'

def find(
    module:str, # such as `core`
    name:str, # dotted name within it
): # function, class or property; `None` where there is none
    "The object called `name`, without the class that a method is bound to"
    obj = importlib.import_module(f'{package}.{module}')
    for part in name.split('.'):
        static = inspect.getattr_static(obj, part, None)
        obj = static if isinstance(static, property) else getattr(obj, part, None)
    return getattr(obj, '__func__', obj)

def parameters(
    obj, # a function or class
) -> dict: # as `docments(..., full=True)` gives them
    "Parameters and what is returned; none for a class that takes its `__init__` from elsewhere"
    if inspect.isclass(obj) and '__init__' not in vars(obj): return {}
    return {k: v for k,v in docments(obj, full=True).items() if k not in ('self', 'cls')}

def docstring(
    obj, # a function, class or property
) -> str: # nothing where it would be a parent's, or the one that `dataclass` writes
    "Its own docstring"
    doc = inspect.cleandoc((vars(obj).get('__doc__') if inspect.isclass(obj) else obj.__doc__) or '')
    return '' if doc.startswith(f'{getattr(obj, "__name__", "")}(') else doc

def entry(
    module:str, # such as `core`
    name:str, # dotted name within it
) -> str: # a Sphinx entry; nothing for a method without docstring, which is another class's hook
    "One function, class or method: signature, docstring, table of parameters"
    obj = find(module, name)
    if obj is None or ('.' in name and not docstring(obj)): return ''
    if isinstance(obj, property): return directive('attribute', name, docstring(obj))
    params = parameters(obj)
    kind = 'class' if inspect.isclass(obj) else 'method' if '.' in name else 'function'
    return directive(kind, name + signature(params), '\n\n'.join(o for o in (docstring(obj), table(params)) if o))

def directive(
    kind:str, # `function`, `class`, `method` or `attribute`
    title:str, # name and signature
    body:str, # Markdown
) -> str:
    "An entry of Sphinx's Python domain, so that search and the index know it"
    return f'`````{{py:{kind}}} {title}\n\n{body}\n`````'

def facade(
    module:str, # such as `transformers`
) -> str: # Markdown; nothing for a module with names of its own
    "Where the names live of a module that only gives those of others"
    if names(module): return ''
    others = re.findall(r'^from \.(\w+) import \*', (root/package/f'{module}.py').read_text('utf8'), re.M)
    return 'Its names: ' + ', '.join(f'[{package}.{o}]({o}.md)' for o in others)

def reference(
    module:str, # such as `core`
    path:Path, # its notebook
) -> str: # Markdown
    "The page of one module"
    doc = inspect.getdoc(importlib.import_module(f'{package}.{module}')) or ''
    lesson = f'[{path.stem.replace("_", " ")}](../{place(path).relative_to(pages).as_posix()})'
    return '\n\n'.join([f'# {package}.{module}', doc.split('\n\nDocs:')[0], f'Notebook: {lesson}', f'```{{py:module}} {package}.{module}\n```',
                        *filter(None, (facade(module), *(entry(module, n) for n in names(module))))]) + '\n'

# The site

def write(
    path:Path, # a page
    text:str, # what it holds
):
    "Touch the file only when something changed, so that Sphinx builds only what did"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text('utf8') != text: path.write_text(text, encoding='utf8')
    return path

def build() -> int: # Sphinx's exit code
    "Prepare the pages, remove those whose source is gone, call Sphinx"
    written = [write(place(p), lesson(p)) for p in notebooks()]
    written += [write(pages/'index.md', f'{within(front())}\n{contents()}')]
    written += [write(pages/f'api/{m}.md', reference(m, p)) for m,p in modules().items()]
    written += [write(pages/p.relative_to(root/'nbs'), p.read_text('utf8')) for p in sorted((root/'nbs/results').glob('*')) if p.suffix in ('.json', '.svg')]
    written += [write(pages/f'{page.__name__}.md', page()) for page in (promises, glossary, troubleshooting, gallery)]
    written += [write(pages/p.name, within(p.read_text('utf8'))) for p in about_project()]
    written += [write(pages/f'teaching/{name}.md', text.replace('](../../nbs/', '](../')) for name,text in teaching_pages().items()]
    for p in [root/'LICENSE', *(p for part in ('bench', 'experiments') for p in sorted((root/part/'results').rglob('*.json')))]: write(pages.parent/p.relative_to(root), p.read_text('utf8')) # the front door links to them as ../
    for p in pages.rglob('*.*'):
        if p not in written: p.unlink()
    return sphinx(['-q', '-b', 'html', '-c', str(here), '-d', str(here/'_build/doctrees'), str(pages), str(site)])

if __name__ == '__main__':
    code = build()
    print(f'{site/"index.html"}')
    sys.exit(code)
