"Exercises, questions and guesses of lesson 00, in JupyterLab, by mouse and keyboard"
import re
import pytest
from playwright.sync_api import expect
from conftest import Lesson

pytestmark = pytest.mark.slow

@pytest.fixture(scope='module')
def lesson(browser, lab):
    with Lesson(browser, lab, 'nbs/00_thirty_minutes') as lesson:
        yield lesson.run_all()
        assert lesson.errors == []

def output(lesson, text): return lesson.page.locator('.jp-OutputArea-output').filter(has_text=text)

def test_stubs_do_not_stop_the_lesson(lesson):
    expect(output(lesson, 'is not yet written').first).to_be_visible()
    assert output(lesson, 'is not yet written').count() == 6
    expect(output(lesson, 'this lesson took')).to_be_visible()

def test_help_opens_a_fold_at_a_time(lesson):
    help = lesson.page.locator('.jp-OutputArea-output').filter(has=lesson.page.get_by_role('button', name='Hint 1', exact=True)).first
    assert help.locator('pre').count() == 0, 'closed at first'
    help.get_by_role('button', name='Hint 1', exact=True).click()
    expect(help).to_contain_text('divide by the sum of a row')
    help.get_by_role('button', name='Solution', exact=True).press('Enter')
    expect(help.locator('pre')).to_contain_text('def softmax(logits):')
    help.get_by_role('button', name='Closed', exact=True).click()
    expect(help.locator('pre')).to_have_count(0)

def test_a_question_says_why(lesson):
    quiz = output(lesson, 'Stage 1 and 2 need no labels. Why?').first
    quiz.get_by_label('They do not train').check()
    expect(quiz).to_contain_text('They train longest of all.')
    expect(quiz).to_contain_text('0 of 1 right at the first try')
    quiz.get_by_label('Overfitted').press('Space')
    expect(quiz).to_contain_text('1 of 2 right at the first try')
    lesson.picture('quiz', quiz)

def test_a_guess_is_told_how_far_off_it_is(lesson):
    guess = lesson.page.locator('.jp-OutputArea-output').filter(has=lesson.page.locator('.widget-text')).first
    expect(guess).to_contain_text(re.compile('Counted words find'))
    field = guess.get_by_role('textbox')
    field.fill('50')
    field.press('Enter')
    expect(guess).to_contain_text('You said 50; it is')
    lesson.picture('guess', guess)

def test_drawings_can_be_seen_and_read_out(lesson):
    drawing = lesson.page.get_by_role('img', name=re.compile('^Three stages from left to right'))
    expect(drawing).to_be_visible()
    lesson.picture('drawing', drawing)
