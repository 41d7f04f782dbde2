"Labels, words and texts of strangers, in every figure and every piece of HTML: shown as they are, and nothing in them that commands"
import random, re, warnings
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree
import numpy as np, pandas as pd, pytest, torch
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.batching import StreamLoader
from ulmfit_course.core import figure_html, themed_html
from ulmfit_course.report import confusion_figure, errors_html, html_table, predictions_html, report_page, trust_html
from ulmfit_course.documents import text_classifier
from ulmfit_course.evaluation import calibration
from ulmfit_course.figures import figure_text, highlight, plain, reading_figure, reliability_figure
from ulmfit_course.models import Checkpoint, model_of
from ulmfit_course.panels import max_chars
from ulmfit_course.predictors import Ensemble, TextClassifier
from ulmfit_course.streams import TokenStream
from ulmfit_course.targets import Labels, Numbers
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer
from ulmfit_course.training_widgets import DropoutViewer, ScheduleDesigner, TrainingMonitor
from ulmfit_course.widgets import BatchViewer, ErrorBrowser, Neighbours, Playground, PredictionExplorer, TagView, TokenInspector, max_left_out

torch.set_num_threads(1)
hostile = [r'$\frac$', '$$', r'\$1\$ _{', '_hidden', '100 % %s %(x)d {x} {', '<b>bold', '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>',
           "'--><!-- ]]></svg><iframe>", 'two\nlines\ttab\r', '\x1b[31mred\x1b]0;title\x07', '\x00\x08\x7f\x85\uffff', '\ud83d half', '\u202egnp.exe',
           '👩\u200d👩\u200d👧 🫠', '電影', '&amp;&#60;&notit;', ' ', 'x'*30_000, 'word '*2_000, '`rm`; $(ls)', 'https://a.b/?c=d&e']
pieces = [*'$_%<>&"\'\\{}^\n\t/=;: -', 'frac', 'script', 'onload', '\x1b[', '\u2028', '\u200f', '\ud800', '電', '🙂', 'a', '9']

def mixed(seed):
    "A text of such pieces"
    draw = random.Random(seed)
    return ''.join(draw.choices(pieces, k=draw.randint(1, 60)))

hostile += [mixed(seed) for seed in range(18)]
sound = [o.encode('utf8', 'replace').decode() for o in hostile]   # as a table holds them
in_fours = lambda texts: [texts[i:i+4] for i in range(0, len(texts), 4)]   # so many classes or words of one figure
groups = in_fours(hostile)

allowed = {*'b br caption details div h1 h2 h4 i img ins li mark p small span sub summary sup table tbody td th thead tr'.split()}
page_tags = {*'html meta title style body picture source small'.split()}

class Page(HTMLParser):
    "What a browser would find in a piece of HTML"
    def __init__(self, html, more=()):
        super().__init__()
        self.tags, self.pictures, self.words = [], [], []
        html.encode('utf8')   # can be sent
        self.feed(html)
        assert {t for t,_ in self.tags} <= allowed | set(more), {t for t,_ in self.tags} - allowed
        names = {name for _,attributes in self.tags for name in attributes}
        assert names <= {'style', 'title', 'alt', 'src', 'role', 'tabindex', 'scope', 'border', 'class', *(('lang', 'charset', 'name', 'content', 'srcset', 'media') if more else ())}, names
        for src in self.pictures: self.is_picture(src)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == 'img': self.pictures.append(dict(attributes)['src'])

    def handle_data(self, data): self.words.append(data)

    def is_picture(self, src):
        kind, data = re.fullmatch(r'data:image/(png|svg\+xml);base64,([\w+/=]+)', src).groups()
        if kind == 'png': assert b64decode(data).startswith(b'\x89PNG')
        else: assert {o.tag.split('}')[1] for o in ElementTree.fromstring(b64decode(data)).iter()} <= {'svg', 'rect', 'path', 'polyline', 'text'}

@pytest.fixture(autouse=True)
def figures(monkeypatch):
    "Every figure that is drawn: no formula in it, and no larger than a page"
    seen, save = [], Figure.savefig
    def checked(fig, *args, **kw):
        save(fig, *args, **kw)
        seen.append(fig)
        for o in fig.findobj(Text): assert not is_math_text(o.get_text()), o.get_text()
        assert max(fig.get_tightbbox().size) < 25, 'inches'
    monkeypatch.setattr(Figure, 'savefig', checked)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')   # a letter that the font lacks is drawn as a box
        yield seen

words = ['xxunk', 'xxpad', 'xxbos', 'film', 'great', 'good', 'awful']
sizes = dict(emb_sz=8, n_hid=8, n_layers=2)

def classifier(labels, vocab):
    torch.manual_seed(0)
    model = text_classifier(len(vocab), len(labels), sizes)
    return TextClassifier(Checkpoint(model.state_dict(), vocab, dict(arch=sizes, labels=labels, lin_ftrs=50, backwards=False)))

def lm(vocab):
    torch.manual_seed(0)
    return Checkpoint(language_model(len(vocab), sizes).state_dict(), vocab, dict(format=2, arch=sizes, direction='fwd', tokenizer=WordTokenizer().config()))

def shown(panel):
    Page(panel.static_html())
    for name in ('view', 'reasons'):
        if hasattr(panel, name): Page(getattr(panel, name).value)
    return panel

@pytest.mark.parametrize('text', hostile)
def test_plain(text):
    for width in (1, 20, 60):
        line = plain(text, width)
        assert len(line) <= width and len(line.splitlines()) <= 1 and all(c.isprintable() or c in '\u200c\u200d' for c in line)
        assert not is_math_text(figure_text(text, width)) and not figure_text(text, width).startswith('_')
        line.encode('utf8')

def test_figures(figures):
    for some in groups:
        probs = np.linspace(0.1, 0.9, 3*len(some)).reshape(3, -1)
        for fig, told in (reading_figure(some[:3], probs[:len(some[:3])], some), reliability_figure(calibration(np.array([[.1, .9], [.7, .3]]), [1, 1]))):
            Page(figure_html(fig, told))
        assert len(reading_figure(some[:3], probs[:len(some[:3])], some)[0].axes[0].get_legend().get_texts()) == len([o for o in some if plain(o)])
        Page(highlight(some, np.linspace(-1, 1, len(some))).encode('utf8', 'replace').decode())
        Page(figure_html(Figure(), ' '.join(some).encode('utf8', 'replace').decode()))
    assert figures

def test_demo(figures):
    for some in in_fours(sound):
        probs = np.eye(len(some))[:, ::-1]
        Page(themed_html(*confusion_figure(some, some, probs)))
        Page(html_table([dict(zip('abcd', some))]))
        told = [dict(tokens=some, parts=[.1]*len(some), label=some[0], predicted=some[-1], probability=.5)]
        Page(predictions_html(told).encode('utf8', 'replace').decode())
        row = dict(name=some[0], n_labels=9, mean=.5, least=.4, most=.6, draws=3)
        report = dict(profile='tiny', seconds_total=1., peak_rss_mb=1., seed=42, rows=[row], verdict=some[0], n_test=4, seconds={some[0]: 1.},
                      processor=some[0], precision='float32', predictions=told, lm=dict(texts=4, before=dict(perplexity=2.), after=dict(perplexity=1.)),
                      generated=dict(zip(some, some)))
        page = report_page(report, some, some, probs)
        Page(page, page_tags)

def test_tokens_and_batches(tmp_path, figures):
    names = {o: WordTokenizer() if i % 2 else CharTokenizer() for i,o in enumerate(hostile[:4])}
    inspector = shown(TokenInspector(names, words, hostile))
    for inspector.text.value in hostile: shown(inspector)
    tok = WordTokenizer()
    loader = StreamLoader(TokenStream.build([o[:200] for o in sound]*3, tmp_path/'stream', tok), bs=3, seq_len=12)
    shown(BatchViewer(loader)).row.value = 2

def test_models_with_odd_words(figures):
    vocab = [*words, *sound]
    odd = lm(vocab)
    near = shown(Neighbours(odd, odd))
    playground = shown(Playground({o: odd for o in hostile[4:7]}))
    for text in hostile:
        near.word.value = playground.prompt.value = text
        shown(near), shown(playground)
    for _ in range(3): playground.one.click()
    shown(playground)
    for i in range(0, len(vocab), 6):
        ids = torch.arange(i, min(i+6, len(vocab))).repeat(2)[None]
        shown(DropoutViewer(model_of(odd), ids, vocab, n=4))
    assert figures

def test_a_classifier_with_odd_labels(figures):
    vocab = [*words, *sound]
    for some in groups[:6]:
        one = classifier(some, vocab)
        for clas in (one, Ensemble(one, one)):
            explorer = shown(PredictionExplorer(clas, some[0]))
            for explorer.text.value in some:
                for explorer.target.index in range(len(some)): shown(explorer)
            explorer.text.value = 'great film ' + some[-1][:200]
            explorer.leave_out(lambda share: None)
            assert 'leave-one-out' in shown(explorer).reasons.value

def test_errors_with_odd_labels(figures):
    for some in in_fours(sound):
        frame = pd.DataFrame(dict(text=some*2, label=some + some[::-1]))
        probs = np.random.default_rng(0).dirichlet(np.ones(len(some)), len(frame))
        errors = shown(ErrorBrowser(frame, probs, some))
        for errors.label.value in some:
            for errors.predicted.value in some: shown(errors)

def test_labels_and_numbers_with_odd_names(figures):
    for some in in_fours(sound)[:6]:
        frame, rng = pd.DataFrame(dict(text=some*2)), np.random.default_rng(0)
        frame['label'], p = [some[:1 + i % 3] for i in range(len(frame))], rng.random((len(frame), len(some)))
        errors, target = shown(ErrorBrowser(frame, p, Labels(some))), Labels(some)
        for errors.question.index in (0, 3): shown(errors)
        numbers, target = frame.assign(label=p.tolist()), Numbers(some, pair=True)
        errors = shown(ErrorBrowser(numbers.assign(text=[f'xxfld 1 {t} xxfld 2 {t}' for t in frame.text]), p[::-1], target))
        for errors.question.index in (0, 3): shown(errors)
        Page(highlight(some, [.1]*len(some), some[0]))
        for target in (Labels(some), Numbers(some)): Page(figure_html(*reading_figure(some, p[:len(some)], target)))
    Page(trust_html(Labels(some), list(frame.label), p) + errors_html(Numbers(some), p.tolist(), p[::-1]), {'picture', 'source'})

def test_spans_with_odd_labels():
    for some in in_fours(sound):
        tag = lambda text, some=some: [dict(text=text[:1], label=some[0], start=0, end=1, probability=.5)] if text else []
        view = shown(TagView(SimpleNamespace(tag=tag, labels=some), some[0]))
        for view.text.value in some: shown(view)

def test_odd_layer_groups(figures):
    for some in groups:
        shown(ScheduleDesigner(some))
        monitor = TrainingMonitor(SimpleNamespace(add_cb=lambda cb: None), some)
        monitor.watch = SimpleNamespace(steps=[2., 1.], rates=[[.1]*len(some)]*2, epochs=[(2, 1, 1., 1., .5)], state='done', tokens=10, seconds=1.,
                                        recorder=SimpleNamespace(metric_names=['epoch', 'train_loss', 'valid_loss', '<b>$x$', 'time']))
        monitor.update()
        shown(monitor)

def test_labels_that_look_alike_stay_apart():
    labels = ['a b', 'a\nb', 'x'*100, 'x'*101]
    explorer = PredictionExplorer(classifier(labels, words), 'good')
    for explorer.target.index in range(4): assert explorer.target.value == labels[explorer.target.index]
    assert len({shown for shown,_ in explorer.target.options}) == 4

def test_a_text_has_an_end():
    "What a page sends is cut where it comes in, and the panel says so"
    explorer, playground = PredictionExplorer(classifier(['neg', 'pos'], words), 'good ' * 3000), Playground({'a model': lm(words)})
    inspector = TokenInspector({'words': WordTokenizer()}, words)
    assert len(explorer.text.value) == max_chars
    for panel, field in ((explorer, explorer.text), (playground, playground.prompt), (inspector, inspector.text)):
        field.set_state(dict(value='good film '*1000))   # as the browser does
        assert len(field.value) == max_chars and 'only the first 5,000 characters are read' in panel.view.value
        field.set_state(dict(value='half \ud83d'))
        assert field.value == 'half ?' and 'only the first' not in panel.view.value
    explorer.text.value = 'good film '*(max_left_out//2)
    assert explorer.ask.disabled and f'up to {max_left_out} tokens' in explorer.reasons.value
    explorer.leave_out(pytest.fail)   # nor may a page that asks all the same
    explorer.text.value = 'good film'
    assert not explorer.ask.disabled and 'up to' not in explorer.reasons.value

def test_all_that_draws_is_known():
    "A module that begins to draw or to write HTML belongs into these tests"
    package = Path(__file__).resolve().parents[1]/'ulmfit_course'
    draws = {p.stem for p in package.glob('*.py') if re.search(r'\bFigure\(|<(p|td|img|table|span|div)\b', p.read_text('utf8'))}
    assert draws == {'core', 'figures', 'panels', 'training_widgets', 'widgets', 'report', 'slides', 'taggers', 'teaching'}, draws

def test_spans_of_odd_texts_and_labels():
    from ulmfit_course.taggers import spans_html
    page = spans_html('<b>&"x</b>', [dict(label='<i>', start=0, end=3, probability=0.5)])
    assert '<b>' not in page and '<i>' not in page and '&lt;b&gt;' in page and '&lt;i&gt;' in page

def test_slides_of_odd_outputs():
    from ulmfit_course.slides import slides_html
    odd = '<b>&"x</b>'
    told = dict(output_type='stream', name='stdout', text=odd)
    cell = dict(cell_type='code', metadata={}, source=f"print('{odd}')", execution_count=1, outputs=[told])
    page = slides_html(dict(cells=[dict(cell_type='markdown', metadata={}, source='# Odd'), cell], metadata={}, nbformat=4, nbformat_minor=5))
    assert odd not in page and '&lt;b&gt;&amp;' in page

def test_questions_and_hints_of_odd_texts():
    from ulmfit_course.teaching import Guess, Question
    odd = '<b>&"x</b>'
    shown = Question(odd, {odd: odd, 'b': ''}, odd)
    shown.controls[0].value = odd
    guess = Guess(odd, 1, odd)
    guess.controls[0].value = '2'
    for page in (shown.static_html(), shown.view.value, shown.children[0].value, guess.static_html()):
        assert odd not in page
