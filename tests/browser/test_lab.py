"The lessons in JupyterLab, run and used as their readers do"
import json, re
from pathlib import Path
import pytest
from playwright.sync_api import expect
from conftest import Lesson, in_the_dark, on_paper, pale, slide

pytestmark = pytest.mark.slow
lessons = Path(__file__).resolve().parents[2]/'nbs'

@pytest.mark.parametrize('name', [p.stem for p in sorted(lessons.glob('[0-9]*.ipynb'))])
def test_lesson_runs_and_is_seen(browser, lab, name):
    "From top to bottom; each widget says something; what the outputs say can be read in either theme"
    with Lesson(browser, lab, f'nbs/{name}') as lesson:
        widgets = lesson.run_all().page.locator('.jp-OutputArea-output').filter(has=lesson.page.locator('.widget-vbox'))
        assert widgets.count() > 0
        for i, widget in enumerate(widgets.all()):
            expect(widget).to_contain_text(re.compile(r'\w'))   # where an answer is awaited, its question
            if 'Solution' not in widget.inner_text(): lesson.picture(f'{name}-{i}', widget)   # the help of exercises looks alike
        assert lesson.page.evaluate(pale) == []
        with in_the_dark(lesson): assert lesson.page.evaluate(pale) == [] and all(on_paper(lesson))
        assert lesson.errors == []

# The notebooks of the widgets: each widget is used once

@pytest.fixture(scope='module')
def opened(browser, lab):
    with Lesson(browser, lab, 'nbs/library/widgets') as lesson: yield lesson.run_all()

@pytest.fixture(scope='module')
def trained(browser, lab):
    with Lesson(browser, lab, 'nbs/library/training_widgets') as lesson: yield lesson.run_all()

def used(lesson, request):
    "The notebook, after all its cells were run; a picture shows what the test has left"
    yield lesson
    lesson.picture(request.node.name)
    assert lesson.errors == []

@pytest.fixture
def widgets(opened, request): yield from used(opened, request)

@pytest.fixture
def training(trained, request): yield from used(trained, request)

def test_tokens_follow_the_text(widgets):
    tokens = widgets.panel('Tokenizer')
    tokens.get_by_label('Text', exact=True).fill('GREAT, no no no, a zxqvish film')
    expect(tokens).to_contain_text('xxwrep 3 no')
    expect(tokens).to_contain_text('1 unknown')
    tokens.get_by_label('beside').select_option('characters')
    expect(tokens).to_contain_text('characters: tokens, each over its id')

def test_batches_follow_the_sliders(widgets):
    batches = widgets.panel('Row to follow')
    slide(batches, 'Row to follow', 'Home')
    slide(batches, 'Row to follow', 'ArrowRight')
    expect(batches).to_contain_text('Row 1: each input over its target')
    slide(batches, 'Batch', 'End')
    expect(batches).to_contain_text('the row ends here')

def test_padding_follows_the_order(widgets):
    padding = widgets.panel('Order of the documents')
    share = lambda: float(re.search(r'([\d.]+)%', padding.locator('tr', has_text='▶').text_content())[1])
    padding.get_by_label('Order of the documents').select_option('as they come')
    expect(padding.locator('tr', has_text='▶')).to_contain_text('as they come')
    worst = share()
    padding.get_by_label('Order of the documents').select_option('length buckets')
    expect(padding.locator('tr', has_text='▶')).to_contain_text('length buckets')
    assert share() < worst

def test_neighbours_of_a_word(widgets):
    neighbours = widgets.panel('How many neighbours')
    neighbours.get_by_label('Word', exact=True).fill('boring')
    expect(neighbours).to_contain_text('dull')
    neighbours.get_by_label('Word', exact=True).fill('zxqvish')
    expect(neighbours.get_by_role('alert').first).to_be_visible()

def test_dropout_follows_the_rate(training):
    dropout = training.panel('Dropout')
    dropout.get_by_label('Dropout', exact=True).select_option('weight')
    slide(dropout, 'Rate', 'Home')
    expect(dropout).to_contain_text('0% of')
    for _ in range(10): slide(dropout, 'Rate', 'ArrowRight')
    expect(dropout).to_contain_text('50% of')

def test_line_of_the_finder_moves_by_keys_and_by_mouse(training):
    finder = training.page.locator('.jp-OutputArea-output').filter(has=training.page.locator('.rate-line'))
    line, chosen = finder.get_by_role('slider'), finder.locator('tr', has_text='your line')
    before = chosen.inner_text()
    line.press('PageUp')
    expect(chosen).not_to_have_text(before, use_inner_text=True)
    by_key, picture = chosen.inner_text(), finder.locator('img').bounding_box()
    training.page.mouse.move(picture['x'] + picture['width']/2, picture['y'] + picture['height']/2)
    training.page.mouse.down()
    training.page.mouse.move(picture['x'] + picture['width']/3, picture['y'] + picture['height']/2, steps=5)
    training.page.mouse.up()
    expect(chosen).not_to_have_text(by_key, use_inner_text=True)

def test_schedule_follows_the_design(training):
    schedule = training.panel('Unfreezing')
    schedule.get_by_label('Unfreezing').select_option('all layers at once')
    expect(schedule).not_to_contain_text('frozen')
    schedule.get_by_label('Unfreezing').select_option('last layer, then all')
    expect(schedule).to_contain_text('frozen')

def test_writing_goes_on_and_stops(widgets):
    playground = widgets.panel('Prompt')
    playground.get_by_label('Prompt').fill('The director')
    slide(playground, 'Temperature', 'Home')
    expect(playground).to_contain_text('100.0%')
    playground.get_by_role('button', name='One word').click()
    expect(playground.locator('mark').first).not_to_be_empty()
    playground.get_by_role('button', name='Go on').click()
    playground.get_by_role('button', name=re.compile('Stop')).click()
    expect(playground.get_by_role('button', name='Go on')).to_be_visible()

def test_review_is_explained(widgets):
    explorer = widgets.panel('Review')
    before = explorer.locator('table').first.inner_text()
    explorer.get_by_label('Review').fill('A wonderful film, but the end is silly.')
    expect(explorer.locator('table').first).not_to_have_text(before, use_inner_text=True)
    explorer.get_by_role('button', name='Leave out each word').click()
    expect(explorer).to_contain_text('Agreement of the two')
    expect(explorer).to_contain_text('This classifier reads forwards')

def test_errors_of_a_cell(widgets):
    errors = widgets.panel('Predicted as')
    for label in ('neg', 'pos'):
        errors.locator('.widget-toggle-buttons', has_text='Label').get_by_role('button', name=label).click()
        expect(errors).to_contain_text(f'with the label {label}')

# Every target, in panels: several labels, a number, two texts, spans; and the panel that lesson 10 makes itself

def lesson_cell(name, words):
    "The code of a lesson's cell that holds these words"
    cells = json.loads((lessons/f'{name}.ipynb').read_text('utf8'))['cells']
    return next(''.join(c['source']) for c in cells if c['cell_type'] == 'code' and words in ''.join(c['source']))

def both_themes(lesson, name, part):
    "A picture in light and in dark"
    lesson.picture(f'{name}-light', part)
    with in_the_dark(lesson): lesson.picture(f'{name}-dark', part)

frames = """
import numpy as np, pandas as pd
from ulmfit_course.targets import Classes, Labels, Numbers
from ulmfit_course.widgets import ErrorBrowser, PredictionExplorer, TagView
rng = np.random.default_rng(0)
texts = [f'Sentence {i} of a letter: <b>$x$</b> and so on.' for i in range(60)]
frame = pd.DataFrame(dict(text=texts))
"""

def test_errors_of_several_labels(browser, lab):
    lab.write('labels', frames + """
has = rng.random((60, 3)) < [.5, .3, .1]
p = (has*.4 + rng.random((60, 3))*.6)
target = Labels(['joy', 'fear', 'awe'], thresholds=[.5, .4, .3])
ErrorBrowser(frame.assign(label=[[l for l,o in zip(target.labels, row) if o] for row in has]), p, target)""")
    with Lesson(browser, lab, 'labels') as lesson:
        errors = lesson.run_all().panel('Predicted as')
        errors.get_by_label('What is asked').select_option('fear')
        for label in ('no', 'yes'):
            errors.locator('.widget-toggle-buttons', has_text='Label').get_by_role('button', name=label, exact=True).click()
            expect(errors).to_contain_text(f'with the label {label}, predicted as')
        expect(errors).to_contain_text('(fear)')
        expect(errors.locator('img')).to_have_attribute('alt', re.compile('Share that has fear against its probability'))
        errors.get_by_label('What is asked').select_option('awe')
        expect(errors.locator('img')).to_have_attribute('alt', re.compile('Share that has awe'))
        both_themes(lesson, 'errors-labels', errors)
        assert lesson.errors == []

def test_errors_of_a_number(browser, lab):
    lab.write('numbers', frames + """
stars = rng.normal(3, 1, 60)
pairs = frame.assign(text=[f'xxfld 1 Is it good? xxfld 2 {t}' for t in texts], label=stars)
ErrorBrowser(pairs, (3 + .5*(stars-3) + rng.normal(0, .4, 60))[:, None], Numbers(['stars'], pair=True))""")
    with Lesson(browser, lab, 'numbers') as lesson:
        errors = lesson.run_all().panel('Texts to list')
        expect(errors).to_contain_text('5 of 60 texts; those that are furthest off first')
        slide(errors, 'Texts to list', 'ArrowRight')
        expect(errors).to_contain_text('6 of 60 texts')
        expect(errors.locator('summary').first).to_contain_text(re.compile(r'off by [\d.]+ stars: '))
        expect(errors.locator('img')).to_have_attribute('alt', re.compile('stars: answers against the labels of 60 texts, off by'))
        errors.locator('summary').first.click()
        expect(errors.locator('details[open] p')).to_have_count(2)   # both texts of the pair
        assert errors.locator('details b').count() == 0
        both_themes(lesson, 'errors-number', errors)
        assert lesson.errors == []

def test_a_number_of_two_texts_is_explained(browser, lab):
    lab.write('pairs', frames + """
from ulmfit_course.classifier import train_classifier
from ulmfit_course.predictors import TextClassifier
good = rng.random(40) < .5
rated = pd.DataFrame(dict(question='Was it good?', answer=np.where(good, 'A wonderful film.', 'A dull film.'), stars=good*3. + rng.random(40)))
learn = train_classifier(rated, None, 'imdb-small', task='similarity', text_cols=['question', 'answer'], label_col='stars', max_unknown=1.)
PredictionExplorer(TextClassifier(learn.checkpoint(), precision='float32'), ['Was it good?', 'A dull film.'])""")
    with Lesson(browser, lab, 'pairs') as lesson:
        explorer = lesson.run_all().panel('Leave out each word')
        value = lambda: float(explorer.locator('tr', has_text='stars').locator('td').nth(1).inner_text())
        dull, before = value(), explorer.locator('table').first.inner_text()
        explorer.get_by_label('answer').fill('A wonderful film.')
        expect(explorer.locator('table').first).not_to_have_text(before, use_inner_text=True)
        assert value() > dull
        explorer.get_by_role('button', name='Leave out each word').click()
        expect(explorer).to_contain_text('Agreement of the two')
        expect(explorer).to_contain_text('raises stars')
        both_themes(lesson, 'explorer-pair', explorer)
        assert lesson.errors == []

def test_spans_follow_the_text(browser, lab):
    lab.write('spans', frames + """
from ulmfit_course.datasets import load_dataset
from ulmfit_course.taggers import train_tagger
tagger = train_tagger(load_dataset('ner_wikigold', 'train').head(150), None, 'wiki-small', direction='fwd', epochs=8)
TagView(tagger, 'Paul Smith lived in London.')""")
    with Lesson(browser, lab, 'spans') as lesson:
        spans = lesson.run_all().panel('At least as sure as')
        before = spans.locator('mark').all_inner_texts()
        spans.get_by_label('Text', exact=True).fill('Mary Jones and <b>John Brown</b> work in New York for Reuters in Germany.')
        expect(spans).to_contain_text('<b>')   # as it was typed
        assert spans.locator('mark').all_inner_texts() != before and spans.locator('mark').count() > 0
        both_themes(lesson, 'spans', spans)
        n = spans.locator('mark').count()
        slide(spans, 'At least as sure as', 'End')
        expect(spans.locator('mark')).not_to_have_count(n)
        slide(spans, 'At least as sure as', 'Home')
        expect(spans.locator('mark')).to_have_count(n)
        assert lesson.errors == []

def test_cleaning_follows_the_steps(browser, lab):
    lab.write('cleaning', "from ulmfit_course.cleaning import Cleaner, clean_steps\nsaid = '<i>Wonderful</i> acting &amp; more'", lesson_cell('10_inputs', 'class CleaningBench'))
    with Lesson(browser, lab, 'cleaning') as lesson:
        bench = lesson.run_all().panel('Steps that are on')
        expect(bench.locator('tr')).to_have_count(5)   # as it is, and four steps
        bench.get_by_label('Steps that are on').select_option(['case'])
        expect(bench.locator('tr')).to_have_count(2)
        bench.get_by_label('Text', exact=True).fill('A LOUD <script>film</script>')
        expect(bench.locator('tr').last).to_contain_text('a loud <script>film</script>')
        both_themes(lesson, 'cleaning', bench)
        assert lesson.errors == []

# What a reader may add

def test_an_error_is_seen(browser, lab):
    lab.write('broken', "print('before')", '1/0')
    with Lesson(browser, lab, 'broken') as lesson:
        with pytest.raises(AssertionError, match='ZeroDivisionError'): lesson.run_all()

def test_a_panel_of_your_own(browser, lab):
    lab.write('letters', """
from ipywidgets import IntSlider, Text
from ulmfit_course.widgets import Panel
class Letters(Panel):
    def __init__(self): super().__init__(Text('transfer', description='Word'), IntSlider(2, 1, 9, description='Times'))
    def draw(self): return f'<p>{self.controls[1].value*len(self.controls[0].value)} letters</p>'
Letters()""")
    with Lesson(browser, lab, 'letters') as lesson:
        letters = lesson.run_all().panel('Times')
        expect(letters).to_contain_text('16 letters')
        letters.get_by_label('Word').fill('learning')
        slide(letters, 'Times', 'ArrowRight')
        expect(letters).to_contain_text('24 letters')
        assert lesson.errors == []

def test_a_running_training_stops_and_keeps_the_model(browser, lab):
    lab.write('training', """
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.learners import language_model_learner
from ulmfit_course.models import load_pretrained
from ulmfit_course.readers import imdb
from ulmfit_course.streams import TokenStream
from ulmfit_course.widgets import TrainingMonitor
wiki = load_pretrained('wiki-small')
stream = TokenStream.cached(list(imdb().text[:12]), vocab=wiki.vocab, n_procs=1)
learn = language_model_learner(lm_dataloaders(stream[:2800], stream[2800:3200], bs=8, seq_len=32), wiki)
monitor = TrainingMonitor(learn, every=0.5)
monitor""", """
with learn.no_bar(), learn.no_logging(): learn.fit(1000, 1e-3)
print(f'{len(monitor.watch.epochs)} epochs')""")
    with Lesson(browser, lab, 'training') as lesson:
        lesson.start()
        monitor = lesson.panel('Stop')
        expect(monitor).to_contain_text('s left', timeout=120_000)
        monitor.get_by_role('button', name='Stop').click()
        expect(monitor).to_contain_text('The model is as it was then')
        lesson.finish()
        expect(lesson.page.locator('.jp-OutputArea-output').last).to_contain_text(re.compile(r'^\d{1,2} epochs'))
        lesson.picture('training')
        assert lesson.errors == []

in_a_notebook = """
import numpy as np, pandas as pd
from ulmfit_course.diagrams import lstm_cell
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer
from ulmfit_course.widgets import ErrorBrowser, PaddingViewer, ScheduleDesigner, TokenInspector
rng = np.random.default_rng(0)
good = rng.random(60) < .5
frame = pd.DataFrame(dict(text=[f'Review {i}' for i in range(60)], label=np.where(good, 'pos', 'neg')))
p = np.clip(.2 + .6*good + rng.normal(0, .2, 60), .01, .99)""", "ScheduleDesigner()", "PaddingViewer(list(range(20, 400, 3)))", \
    "ErrorBrowser(frame, np.stack([1-p, p], 1))", "TokenInspector(dict(words=WordTokenizer()), ['xxunk', 'xxpad', 'a', 'great', 'film'])", "lstm_cell()"

def test_widgets_in_the_dark(browser, lab):
    lab.write('dark', *in_a_notebook)
    with Lesson(browser, lab, 'dark') as lesson, in_the_dark(lesson.run_all()):
        figures = [*on_paper(lesson)]
        assert lesson.page.evaluate(pale) == [] and len(figures) >= 4 and all(figures)
        starts = lesson.panel('Unfreezing').locator('.widget-hslider .slider-container').evaluate_all('all => all.map(o => o.getBoundingClientRect().x)')
        assert len(starts) > 4 and max(starts) - min(starts) < 1, 'sliders begin at one line'
        for view in lesson.page.locator('.widget-vbox > .widget-html').all(): assert view.bounding_box()['height'] <= .86*1000
        for i, output in enumerate(lesson.page.locator('.jp-OutputArea-output').all()): lesson.picture(f'dark-widget-{i}', output)
        assert lesson.errors == []
