"Package metadata, all of it read from settings.ini"
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(interpolation=None)
config.read(here/'settings.ini', encoding='utf8')
s = config['DEFAULT']

setup(
    name=s['lib_name'], version=s['version'], description=s['description'], author=s['author'], keywords=s['keywords'], license=s['license'],
    long_description=(here/'README.md').read_text('utf8'), long_description_content_type='text/markdown',
    python_requires=f">={s['min_python']}", packages=find_packages(include=[s['lib_path'], f"{s['lib_path']}.*"]),
    package_data={s['lib_path']: ['pretrained/**', 'assets/**']},
    install_requires=s['requirements'].split(), extras_require=dict(dev=s['dev_requirements'].split()),
    entry_points=dict(console_scripts=[s['console_scripts']]))
