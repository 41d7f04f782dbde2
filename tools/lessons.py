"""How much of each lesson's code is exported, and how wide and long its cells are: `python tools/lessons.py`

A lesson is a numbered notebook of `nbs/`. At most a quarter of its lines of code is exported (the rest shows, draws, proves),
no line is wider than 100 columns (of an exported cell: 140), and an exported cell of more than ten lines is folded away."""
import json, re, sys
from pathlib import Path
from statistics import median

root = Path(__file__).resolve().parent.parent
lessons = lambda: sorted((root/'nbs').glob('[0-9]*.ipynb'))
library = lambda: sorted((root/'nbs'/'library').glob('*.ipynb'))

def source(
    cell:dict, # of a notebook
) -> str:
    "The text of a cell without surrounding blank lines"
    return ''.join(cell['source']).strip()

def code_cells(
    path:Path, # a notebook
) -> list: # its code cells that are not empty
    return [c for c in json.loads(path.read_text('utf8'))['cells'] if c['cell_type'] == 'code' and source(c)]

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

def report(
    path:Path, # a lesson
) -> dict: # its figures
    cells = code_cells(path)
    exported, lines = sum(n_lines(c) for c in cells if is_exported(c)), sum(map(n_lines, cells))
    return dict(lesson=path.stem, lines=lines, exported=exported, share=exported/max(lines, 1), median_cell=median(map(n_lines, cells)), wide=len(too_wide(path)), unfolded=len(unfolded(path)))

if __name__ == '__main__':
    rows = [report(p) for p in lessons()]
    for r in rows: print(f"{r['lesson']:22} {r['lines']:5} lines, {r['exported']:4} exported ({r['share']:4.0%}), median cell {r['median_cell']:4.1f}, {r['wide']} too wide, {r['unfolded']} unfolded")
    total = sum(r['exported'] for r in rows)/max(sum(r['lines'] for r in rows), 1)
    print(f"{'all lessons':22} {total:.0%} exported")
    sys.exit(any(r['share'] > 0.25 or r['wide'] or r['unfolded'] for r in rows))
