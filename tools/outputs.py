"""Run notebooks from top to bottom and keep what they show: `python tools/outputs.py [NOTEBOOK...]`, all of them if none is named

`--clean` runs nothing: it takes out what only makes merges hard, as `nbdev-clean` does, but for the numbers of the cells, from
which a test reads that a notebook was run in order."""
import sys, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from nbdev.clean import clean_nb

root = Path(__file__).resolve().parent.parent

def still(
    out:dict, # one output of a code cell
) -> dict | None: # what can be seen of it without a kernel
    "Of a widget its still picture, if it has one; any other output as it is"
    if 'application/vnd.jupyter.widget-view+json' not in out.get('data', {}): return out
    picture = {k: v for k,v in out['data'].items() if k == 'text/html'}
    return {**out, 'data': picture} if picture else None

def clean(
    nb, # a notebook, changed in place
):
    "Without the metadata of editors and the addresses of objects"
    numbers = [(c, c.execution_count) for c in nb.cells if c.cell_type == 'code']
    clean_nb(nb, allowed_cell_metadata_keys=['jupyter', 'tags', 'nbgrader', 'slideshow'])   # what is folded away stays so, what is graded, what is a slide
    for c,n in numbers: c.execution_count = n

def run(
    path:Path, # a notebook; it is written when its last cell is done
):
    "Run `path` in its own folder, without its old outputs"
    nb = nbformat.read(path, as_version=4)
    NotebookClient(nb, timeout=None, kernel_name='python3', record_timing=False, coalesce_streams=True, resources=dict(metadata=dict(path=str(path.parent)))).execute()
    for c in nb.cells:
        if c.cell_type == 'code': c.outputs = [nbformat.from_dict(o) for o in map(still, c.outputs) if o]
    nb.metadata = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    clean(nb)
    nbformat.write(nb, path)

def tidy(
    path:Path, # a notebook
):
    "Write `path` anew if there is something to take out"
    nb = nbformat.read(path, as_version=4)
    clean(nb)
    text = nbformat.writes(nb) + '\n'
    if text != path.read_text('utf8'): path.write_text(text, encoding='utf8')

if __name__ == '__main__':
    words = sys.argv[1:]
    named = [Path(o).resolve() for o in words if o != '--clean']
    for path in named or sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts):
        if '--clean' in words: tidy(path)
        else:
            began = time.perf_counter()
            run(path)
            print(f'{path.name}: {time.perf_counter() - began:.0f} s', flush=True)
