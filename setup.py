"Package metadata, all of it read from settings.ini"
import shutil
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(interpolation=None)
config.read(here/'settings.ini', encoding='utf8')
s = config['DEFAULT']
extras = {k: s[f'{k}_requirements'].split() for k in ('lab', 'parquet', 'inputs', 'transformers', 'scale', 'classroom', 'dev')}
extras['dev'] += extras['lab'] + extras['parquet'] + extras['inputs'] + extras['transformers'] + extras['scale'] + extras['classroom']
first, last = (int(s[k].split('.')[1]) for k in ('min_python', 'max_python'))

class BuildWithCourse(build_py):
    "The notebooks, and the records that they read, go into the package, for `ulmfit-course lab`"
    def run(self):
        super().run()
        if self.editable_mode: return
        course = Path(self.build_lib)/s['lib_path']/'course'
        for part in ('nbs', 'bench/results', 'experiments/results', 'docs/teaching'): shutil.copytree(here/part, course/part, ignore=shutil.ignore_patterns('.*'), dirs_exist_ok=True)
        shutil.copy(here/'LICENSE', course)

setup(
    name=s['lib_name'], version=s['version'], description=s['description'], author=s['author'], keywords=s['keywords'], license=s['license'],
    long_description=(here/'README.md').read_text('utf8'), long_description_content_type='text/markdown',
    classifiers=[f'Programming Language :: Python :: 3.{o}' for o in range(first, last+1)], packages=find_packages(include=[s['lib_path'], f"{s['lib_path']}.*"]),
    package_data={s['lib_path']: ['pretrained/**', 'assets/**']},
    install_requires=s['requirements'].split(), cmdclass=dict(build_py=BuildWithCourse),
    extras_require=extras, entry_points=dict(console_scripts=[s['console_scripts']]))
