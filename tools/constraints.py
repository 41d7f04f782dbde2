"Write constraints.txt, the exact versions that everything is tested with: `python tools/constraints.py [--upgrade]`; `uv` has to be installed"
import re, subprocess, sys
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
config = ConfigParser(interpolation=None)
config.read(root/'settings.ini', encoding='utf8')
settings = config['DEFAULT']
header = f'''# The exact versions that everything is tested with, on Python {settings['min_python']} to {settings['max_python']}. A line is a limit, not a wish: what a machine does not need is not installed.
# Made from settings.ini by `make constraints`.
'''

def resolve(
    asked:list, # requirements
    *options, # of `uv pip compile`
) -> list: # lines such as `numpy==2.2.6 ; python_full_version < '3.11'`
    "What uv finds for every platform and every Python of the course"
    command = [Path(sys.executable).with_name('uv'), 'pip', 'compile', '-q', '--no-config', '--no-header', '--no-annotate',
               '--universal', '--python-version', settings['min_python'], *options, '-']
    return subprocess.run(command, cwd=root, input='\n'.join(asked), stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()

def limit(
    line:str, # of `resolve`
) -> str: # a line of constraints.txt; nothing for what only a browser's Python needs
    "The version, and for which Pythons it is meant; the platform does not matter to a limit"
    pin, _, marker = line.partition(' ; ')
    if "sys_platform == 'emscripten'" in marker: return ''
    last = int(settings['max_python'].split('.')[1])
    pythons = [o for o, minor in re.findall(r"(python_full_version [<>=]+ '3\.(\d+)[\d.]*')", marker) if int(minor) <= last]
    return '; '.join([pin, *filter(None, [' and '.join(dict.fromkeys(pythons))])])

if __name__ == '__main__':
    file = root/'constraints.txt'
    torch = re.search(r'^torch==.*$', file.read_text('utf8'), re.M)[0] # a newer torch is chosen, not found
    asked = [torch, *(o for k in ('', 'lab_', 'parquet_', 'inputs_', 'transformers_', 'scale_', 'classroom_', 'dev_') for o in settings[f'{k}requirements'].split())]
    found = resolve(asked, *([] if '--upgrade' in sys.argv else ['-c', file.name]))
    file.write_text(header + ''.join(f'{o}\n' for o in map(limit, found) if o), encoding='utf8')
