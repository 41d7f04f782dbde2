"Sphinx configuration; `docs/build.py` prepares the pages and calls Sphinx"
from configparser import ConfigParser
from pathlib import Path
from docutils.nodes import SkipNode
from ulmfit_course.slides import mathml

here = Path(__file__).parent
settings = ConfigParser(interpolation=None)
settings.read(here.parent/'settings.ini', encoding='utf8')

project, author, release = 'ulmfit_course', settings['DEFAULT']['author'], settings['DEFAULT']['version']
copyright = author
extensions = ['myst_nb', 'sphinx_design']
nb_execution_mode = 'off' # the notebooks come with their outputs
nb_render_markdown_format = 'myst'  # tables in outputs, too
nb_merge_streams = True
myst_enable_extensions = ['amsmath', 'colon_fence', 'dollarmath']
myst_heading_anchors = 3
html_theme = 'sphinx_book_theme'
html_title = project
html_static_path = [str(here/'_static')]
html_css_files = ['course.css']
html_theme_options = dict(show_toc_level=2, home_page_in_toc=True, navbar_persistent=[])
html_copy_source = False
add_module_names = False
toc_object_entries_show_parents = 'hide'
html_math_renderer = 'mathml'

def inline_math(self, node):
    self.body.append(mathml(node.astext()))
    raise SkipNode

def block_math(self, node):
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise SkipNode

def setup(app): app.add_html_math_renderer('mathml', (inline_math, None), (block_math, None))
