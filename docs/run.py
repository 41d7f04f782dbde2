"Run a notebook in a fresh kernel from top to bottom and keep its outputs: python docs/run.py nbs/01_data.ipynb"
import re, sys, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient

def clean(cell, home=str(Path.home()), root=str(Path(__file__).resolve().parent.parent)):
    "Drop what belongs to one run or one machine: timings of cells, bars, warnings on stderr, paths"
    cell.metadata.pop('execution', None)
    if cell.cell_type != 'code': return
    cell.outputs = [o for o in cell.outputs if not (o.output_type == 'stream' and o.name == 'stderr')]
    for o in cell.outputs:
        if o.output_type == 'stream': o.text = o.text.replace(root, '.').replace(home, '~')

def run(path):
    path = Path(path)
    nb, began = nbformat.read(path, as_version=4), time.perf_counter()
    NotebookClient(nb, timeout=900, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}).execute()
    for cell in nb.cells: clean(cell)
    nb.metadata = dict(kernelspec=dict(display_name='python3', language='python', name='python3'), language_info=dict(name='python'))
    nbformat.write(nb, path)
    print(f'{path}: {time.perf_counter()-began:.0f} s')

if __name__ == '__main__':
    for path in sys.argv[1:]: run(path)
