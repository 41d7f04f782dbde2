"Write README.md from nbs/index.ipynb, and its picture from the record of the demo"
import json, re
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def from_root(
    source:str, # Markdown of a notebook in nbs/
) -> str: # the same, its relative links pointing from the repository's root
    "Make links that work beside the notebook work beside README.md"
    def target(m): return m[1] + (m[2][3:] if m[2].startswith('../') else f'nbs/{m[2]}') + ')'
    return re.sub(r'(\]\()(?!#|/|[a-z]+:)([^)\s]+)\)', target, source)

def split_source(
    source:str, # a code cell
) -> tuple: # its `#|` lines without their mark, the rest
    "Part nbdev's directives from the code"
    lines = source.splitlines()
    return [o[2:].strip() for o in lines if o.startswith('#|')], '\n'.join(o for o in lines if not o.startswith('#|')).strip()

def code(
    source:str, # a code cell
) -> str: # a fenced block, or nothing where the cell is not to be shown
    "The cell as Markdown"
    directives, source = split_source(source)
    return '' if 'echo: false' in directives else f'```python\n{source}\n```'

def output(
    out:dict, # one output of a code cell
) -> str: # Markdown as it is, plain text in a fence, nothing for the rest
    "The output as Markdown"
    data = out.get('data', {'text/plain': out.get('text', '')})
    if 'text/markdown' in data: return from_root(''.join(data['text/markdown']))
    if 'text/html' in data or not data.get('text/plain'): return ''
    return '```text\n' + ''.join(data['text/plain']).strip() + '\n```'

def readme(
    path=root/'nbs/index.ipynb', # the front door
) -> str: # README.md
    "The notebook as one Markdown page"
    parts = []
    for c in json.loads(Path(path).read_text('utf8'))['cells']:
        source = ''.join(c['source'])
        if c['cell_type'] == 'markdown': parts.append(from_root(source))
        if c['cell_type'] == 'code': parts += [code(source), *map(output, c['outputs'])]
    return '\n\n'.join(o.strip() for o in parts if o.strip()) + '\n'

def picture(
    record=root/'nbs/results/demo.json', # what `make demo` has left
) -> str: # SVG
    "Accuracy against labels, the same bytes from the same record"
    from io import StringIO
    from matplotlib import rc_context
    from ulmfit_course.report import labels_figure
    report = json.loads(Path(record).read_text('utf8'))['report']
    with rc_context({'svg.hashsalt': 'demo'}):
        fig, told = labels_figure(report['rows'], report['n_test'])
        fig.savefig(kept := StringIO(), format='svg', metadata=dict(Date=None, Title=told))
    return kept.getvalue()

if __name__ == '__main__':
    (root/'nbs/results/demo.svg').write_text(picture(), encoding='utf8')
    (root/'README.md').write_text(readme(), encoding='utf8')
