"""What each lesson asks of its reader, and how it is made: `python tools/lessons.py`; `--write` puts the table into CONTRIBUTING.md

A lesson is a numbered notebook of `nbs/`. `faults` holds the bounds: at most a quarter of its lines of code is exported (the rest
shows, draws, proves), no line is wider than 100 columns (of an exported cell: 140), an exported cell of more than ten lines is folded
away, half of the cells have eight lines at most; and a lesson says its times, asks to write, to choose and to guess."""
import ast, json, re, sys
from pathlib import Path
from statistics import median
from ulmfit_course.editions import row_of, times

root = Path(__file__).resolve().parent.parent
lessons = lambda: sorted((root/'nbs').glob('[0-9]*.ipynb'))
library = lambda: sorted((root/'nbs'/'library').glob('*.ipynb'))
marks = '<!-- lessons: python tools/lessons.py --write -->\n', '<!-- end of lessons -->\n'
without_exercises = '09_evidence',   # it reads records, and defines nothing

# Cells

def source(
    cell:dict, # of a notebook
) -> str:
    "The text of a cell without surrounding blank lines"
    return ''.join(cell['source']).strip()

def cells(
    path:Path, # a notebook
    kind:str='code', # or `markdown`
) -> list: # its cells of that kind that are not empty
    return [c for c in json.loads(path.read_text('utf8'))['cells'] if c['cell_type'] == kind and source(c)]

def code_cells(path): return cells(path)
def is_exported(cell): return bool(re.match(r'#\|\s*export', source(cell)))
def n_lines(cell): return len(source(cell).splitlines())

def too_wide(
    path:Path, # a notebook
    lesson:bool=True, # its cells may have 100 columns, where the library's have 140
) -> list: # the lines
    return [l for c in code_cells(path) for l in source(c).splitlines() if len(l) > (100 if lesson and not is_exported(c) else 140)]

def unfolded(
    path:Path, # a notebook
) -> list: # first lines of exported cells of more than ten lines that stand open
    return [source(c).splitlines()[1] for c in code_cells(path) if is_exported(c) and n_lines(c) > 10 and not c['metadata'].get('jupyter', {}).get('source_hidden')]

def time_line(
    path:Path, # a lesson
) -> str: # of the table on top
    "What the lesson says of its times"
    return row_of(path, 'Time')

# What is asked

def drawings() -> set: # names of functions
    "Those of the module `diagrams` that draw, and what they draw with"
    tree = ast.parse((root/'ulmfit_course'/'diagrams.py').read_text('utf8'))
    return {f.name for f in tree.body if isinstance(f, (ast.FunctionDef, ast.ClassDef)) and not f.name.startswith('_')}

def called(call): return getattr(call.func, 'id', getattr(call.func, 'attr', None))

def calls(
    path:Path, # a notebook
) -> list: # syntax trees of the calls, but of an object called `driven`, which only a test sees
    "The calls of its code, by name"
    plain = lambda s: '\n'.join(re.match(r'\s*', l)[0] + 'pass' if re.match(r'\s*[%!]', l) else l for l in s.splitlines())
    tops = [o for c in code_cells(path) for o in ast.parse(plain(source(c))).body]
    shown = [o for o in tops if not (isinstance(o, ast.Assign) and any(isinstance(t, ast.Name) and t.id == 'driven' for t in o.targets))]
    return [c for o in shown for c in ast.walk(o) if isinstance(c, ast.Call) and called(c)]

def asked(
    path:Path, # a lesson
) -> dict: # `exercises`, `questions`, `guesses`, `diagrams`
    "How much of each: what has help is an exercise"
    found, drawn = calls(path), drawings()
    of = lambda *names: [c for c in found if called(c) in names]
    return dict(exercises=len({ast.unparse(c.args[0]) for c in of('Help') if c.args}), questions=sum(len(c.args) for c in of('Quiz')),
                guesses=len(of('Guess')), diagrams=len(of(*drawn)))

# The report

def report(
    path:Path, # a lesson
) -> dict: # its figures
    "Everything that is counted"
    code, text = code_cells(path), cells(path, 'markdown')
    exported, lines, sizes = sum(n_lines(c) for c in code if is_exported(c)), sum(map(n_lines, code)), [*map(n_lines, code)]
    words = sum(len(re.findall(r"\w[\w'’-]*", source(c))) for c in text)
    return dict(lesson=path.stem, **times(time_line(path)), cells=len(code) + len(text), median_cell=median(sizes), longest=max(sizes),
                share=exported/max(lines, 1), **asked(path), words=words/max(lines, 1), wide=len(too_wide(path)), unfolded=len(unfolded(path)),
                lines=lines, exported=exported)

def faults(
    r:dict, # a `report`
) -> list: # in words
    "What a lesson still lacks"
    rules = {'does not say how long it takes to study': r['study'], 'does not say how long the machine takes': r['machine'],
             'exports more than a quarter of its code': r['share'] <= .25, 'has lines that scroll sideways': not r['wide'],
             'has exported cells over ten lines that stand open': not r['unfolded'], 'has cells of more than eight lines, half of them': r['median_cell'] <= 8,
             'has fewer than five exercises': r['exercises'] >= 5 or r['lesson'] in without_exercises,
             'has not five to eight questions': 5 <= r['questions'] <= 8, 'has nothing to guess': r['guesses']}
    return [k for k,v in rules.items() if not v]

columns = dict(lesson=lambda r: r['lesson'].replace('_', ' '), study=lambda r: r['study'], machine=lambda r: r['machine'],
               cells=lambda r: r['cells'], median=lambda r: f"{r['median_cell']:g}", longest=lambda r: r['longest'],
               exported=lambda r: f"{r['share']:.0%}", exercises=lambda r: r['exercises'], questions=lambda r: r['questions'],
               guesses=lambda r: r['guesses'], diagrams=lambda r: r['diagrams'], words=lambda r: f"{r['words']:.1f}", wide=lambda r: r['wide'])

def table(
    rows:list, # a `report` of each lesson
) -> str: # Markdown
    "A row a lesson, and their sum"
    total = lambda name: sum(r[name] or 0 for r in rows)
    last = ['all', *(total(k) for k in ('study', 'machine', 'cells')), '', '', f"{total('exported')/total('lines'):.0%}",
            *(total(k) for k in ('exercises', 'questions', 'guesses', 'diagrams')), '', total('wide')]
    grid = [[*columns], ['---', *['--:']*(len(columns)-1)], *([f(r) for f in columns.values()] for r in rows), last]
    return ''.join('| ' + ' | '.join(map(str, row)) + ' |\n' for row in grid)

def with_table(
    text:str, # CONTRIBUTING.md
    rows:list, # a `report` of each lesson
) -> str: # the same, with today's table between the two marks
    "The text around the table stays"
    head, rest = text.split(marks[0])
    return head + marks[0] + '\n' + table(rows) + '\n' + marks[1] + rest.split(marks[1])[1]

def main(write):
    guide, rows = root/'CONTRIBUTING.md', [*map(report, lessons())]
    if write: guide.write_text(with_table(guide.read_text('utf8'), rows), encoding='utf8')
    print(table(rows))
    lacking = {r['lesson']: found for r in rows if (found := faults(r))}
    for lesson, found in lacking.items(): print(f'{lesson} {"; ".join(found)}')
    return bool(lacking)

if __name__ == '__main__': sys.exit(main('--write' in sys.argv[1:]))
