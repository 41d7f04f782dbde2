"The page that `model_report` writes, on a light and on a dark screen"
import numpy as np, pandas as pd, pytest
from playwright.sync_api import expect
from ulmfit_course.report import by_label, errors_html, html_table, page, predictions_html, trust_html
from ulmfit_course.evaluation import top_losses
from ulmfit_course.targets import Classes, Labels, Numbers
from conftest import Page, pictures

pytestmark = pytest.mark.slow
rng = np.random.default_rng(0)
n, names = 80, ['joy', 'fear', 'a label with a long name <b>']

def judged(kind):
    "A target, the labels of some texts, and answers that follow them"
    if kind == 'numbers':
        y = rng.normal(3, 1, (n, 2))
        return Numbers(['valence', 'arousal']), y.tolist(), 3 + .6*(y-3) + rng.normal(0, .4, y.shape)
    if kind == 'labels':
        has = rng.random((n, 3)) < .4
        return Labels(names), [[l for l,o in zip(names, row) if o] for row in has], has*.4 + rng.random(has.shape)*.6
    i = rng.integers(0, 3, n)
    return Classes(names), [names[k] for k in i], (p := rng.random((n, 3)) + np.eye(3)[i])/p.sum(1, keepdims=True)

@pytest.mark.parametrize('kind', ['classes', 'labels', 'numbers'])
def test_page_in_both_themes(browser, kind, tmp_path):
    target, y, answers = judged(kind)
    worst = top_losses(pd.DataFrame(dict(text=['a'*900]*n, label=y)), answers, target)[:3].to_dict('records')
    told = [dict(o, tokens='xxbos xxfld 1 is it <b>good</b> ? xxfld 2 not at all'.split(), parts=rng.normal(size=12)) for o in worst]
    body = html_table([target.scores(y, answers)]) + html_table(by_label(target, y, answers).reset_index().to_dict('records'))
    (tmp_path/'page.html').write_text(page.format(title=kind, body=body + errors_html(target, y, answers) + trust_html(target, y, answers)
                                                  + predictions_html(told)), encoding='utf8')
    with Page(browser, (tmp_path/'page.html').as_uri()) as shown:
        for scheme in ('light', 'dark'):
            shown.page.emulate_media(color_scheme=scheme)
            expect(shown.page.get_by_role('heading', name=kind)).to_be_visible()
            shown.page.wait_for_function('() => [...document.images].every(o => o.complete && o.naturalWidth)')
            images = shown.page.locator('img').evaluate_all('all => all.map(o => o.alt.length > 20)')
            assert all(images) and len(images) == dict(classes=2, labels=3, numbers=2)[kind]
            assert shown.page.locator('b b, td b').count() == 0
            shown.page.screenshot(path=pictures/f'report-{kind}-{scheme}.png', full_page=True)
        assert shown.errors == []
